//! What providers tell us. An event is answered 2xx only after it is committed; 202 when its call is not known yet.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use chrono::Utc;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{self, Query};
use crate::api::{Api, State};
use crate::config::Causes;
use crate::db::fault::within;
use crate::domain::ids::{AttemptId, PROVIDER_ID_BYTES_MAX};
use crate::domain::webhook_key::WebhookKey;
use crate::domain::word::Word;
use crate::outcome::Became;
use crate::outcome::inbox::{Heard, Meant};
use crate::provider::signature::{self, Headers, Proof};
use crate::provider::ultravox::tool::Told;
use crate::provider::webhook::{self, OutcomeReport, Report, StatusReport};
use crate::provider::{telnyx, ultravox};
use crate::store::installation;
use crate::telemetry::vitals::Vital;

/// The strictest sender gives up on an answer after 2 s (Telnyx).
const ANSWER_WITHIN: Duration = Duration::from_millis(1_800);
/// Fields of their webhooks that are not stored.
const SECRET_FIELDS: &[&str] = &["joinUrl", "callbacks", "delivered_to", "stream_url", "stream_params"];
const FORM: &str = "application/x-www-form-urlencoded";

/// Whom we believe.
#[derive(Debug)]
pub struct Rules {
    /// Set: every webhook needs a signature by one of them.
    pub keys: Vec<WebhookKey>,
    pub tolerance_secs: u64,
    /// Without a secret: believed unsigned on a loopback bind; elsewhere only with the token of our URL.
    pub loopback: bool,
    /// Key of the tokens.
    pub token_key: Vec<u8>,
    pub native: Native,
}

/// How the providers that sign in their own way are believed.
#[derive(Debug)]
pub struct Native {
    pub ultravox_secrets: Vec<SecretString>,
    pub ultravox_tolerance_secs: u64,
    /// Empty: only our URL with its token is believed.
    pub telnyx_public_key: String,
    pub telnyx_tolerance_secs: u64,
    pub causes: Causes,
}

/// What our own webhook URL carries.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct OurUrl {
    /// The attempt meant; wins over ids in the body.
    #[param(value_type = Option<uuid::Uuid>)]
    pub attempt_id: Option<String>,
    /// Proof that the URL is ours.
    pub token: Option<String>,
}

/// What became of the event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Receipt {
    /// applied; unchanged: known or outweighed already; stored: its call is not known yet; set aside: it cannot be stored as it is, and
    /// is kept for a person.
    #[schema(example = "applied")]
    pub status: &'static str,
}

/// The receipt of an event whose call is not known yet.
const STORED: &str = "stored";

type Answer = (StatusCode, axum::Json<Data<Receipt>>);

/// A bare status, as the generic provider sends it to the `webhookUrl` of its request.
#[utoipa::path(post, path = "/callbacks/call-status", tag = "webhooks", params(OurUrl),
    request_body = StatusReport,
    responses((status = 200, description = "Committed", body = Data<Receipt>),
              (status = 202, description = "Committed; its call is not known yet", body = Data<Receipt>), Problems))]
pub async fn receive_call_status(state: State, Query(url): Query<OurUrl>, request: Request) -> Result<Answer, Error> {
    receive::<StatusReport>(&state.0, url, request, StatusReport::read).await
}

/// How a conversation went, from the platform.
#[utoipa::path(post, path = "/webhooks/outcome", tag = "webhooks", params(OurUrl),
    request_body = OutcomeReport,
    responses((status = 200, description = "Committed", body = Data<Receipt>),
              (status = 202, description = "Committed; its call is not known yet", body = Data<Receipt>), Problems))]
pub async fn receive_outcome(state: State, Query(url): Query<OurUrl>, request: Request) -> Result<Answer, Error> {
    receive::<OutcomeReport>(&state.0, url, request, OutcomeReport::read).await
}

async fn receive<T: serde::de::DeserializeOwned>(
    api: &Arc<Api>,
    url: OurUrl,
    request: Request,
    read: fn(T) -> Result<Report, webhook::Error>,
) -> Result<Answer, Error> {
    let named = url.attempt_id.as_deref().map(str::parse::<AttemptId>).transpose();
    let named = named.map_err(|_| Error::invalid_field("attemptId", "is not an id of ours"))?;
    // Whatever signs the body signs no URL.
    let named = named.map(|_| named_by_our_url(&api.webhooks, &url)).transpose()?;
    let (parts, body) = request.into_parts();
    let unsigned = || api.who.keyless.admit(&parts);
    let request = Request::from_parts(parts.clone(), body);
    let body = extract::read(request, api).await?;
    let event_id = believe(&api.webhooks, &parts.headers, &body, named, unsigned)?;
    let value: Value = extract::json(&body)?;
    let report = read(extract::fit(value.clone())?).map_err(unreadable)?;
    let report = Report { key: event_id, attempt_id: named.or(report.attempt_id), ..report };
    let answer = commit(api, report, value).await?;
    hold_if_lost(api, named.is_some(), &answer).await;
    Ok(answer)
}

/// Stores what was said; answers once that is committed.
async fn commit(api: &Api, report: Report, body: Value) -> Result<Answer, Error> {
    let about = match (report.attempt_id, report.provider_call_id) {
        (Some(attempt), _) => Meant::Attempt(attempt),
        (None, Some(id)) if !id.is_empty() && id.len() <= PROVIDER_ID_BYTES_MAX && !id.contains('\0') => {
            Meant::ProviderCall(id)
        }
        _ => {
            return Err(Error::invalid_field(
                "callId",
                "name the call: attemptId in the URL, conversationId or callId in the body",
            ));
        }
    };
    if let Some(delay) = report.at.and_then(|at| (Utc::now() - at).to_std().ok()) {
        metrics::histogram!("outdial_webhook_delay_seconds").record(delay);
    }
    let body = Some(without_secrets(body));
    let heard = Heard { about, word: report.word, key: report.key, source: "webhook", body };
    let told = tokio::time::timeout(ANSWER_WITHIN, api.inbox.hear(heard)).await;
    api.vitals.beat_if(Vital::Word, matches!(told, Ok(Ok(_))));
    match told {
        Ok(Ok(Became::Applied)) => Ok(receipt(StatusCode::OK, "applied")),
        Ok(Ok(Became::Unchanged)) => Ok(receipt(StatusCode::OK, "unchanged")),
        Ok(Ok(Became::Stray)) => Ok(receipt(StatusCode::ACCEPTED, STORED)),
        Ok(Ok(Became::SetAside)) => Ok(receipt(StatusCode::ACCEPTED, "set aside")),
        Ok(Err(error)) => Err(Error::unavailable(error.into())),
        // It may be stored all the same: a repeat changes nothing.
        Err(late) => Err(Error::unavailable(late.into())),
    }
}

/// A body without what opens something: addresses to join by, our URLs with their tokens, secrets to sign with.
fn without_secrets(body: Value) -> Value {
    match body {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !SECRET_FIELDS.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name, without_secrets(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_secrets).collect()),
        other => other,
    }
}

/// What an Ultravox call has come to: joined, ended, billed. Signed by their scheme, with the secret each call is given.
#[utoipa::path(post, path = "/webhooks/ultravox", tag = "webhooks", request_body = Object,
    responses((status = 200, description = "Committed, or nothing we act on", body = Data<Receipt>),
              (status = 202, description = "Committed; its call is not known yet", body = Data<Receipt>), Problems))]
pub async fn receive_ultravox(state: State, request: Request) -> Result<Answer, Error> {
    let headers = request.headers().clone();
    let body = extract::read(request, &state.0).await?;
    let native = &state.0.webhooks.native;
    let signed = ultravox::webhook::Headers {
        timestamp: text_of(&headers, "x-ultravox-webhook-timestamp"),
        signature: text_of(&headers, "x-ultravox-webhook-signature"),
    };
    let tolerance = native.ultravox_tolerance_secs;
    if !ultravox::webhook::is_genuine(&native.ultravox_secrets, signed, &body, Utc::now(), tolerance) {
        return Err(Error::unauthorized(
            "the signature does not fit: hex HMAC-SHA256 of body and X-Ultravox-Webhook-Timestamp by the call's secret",
        ));
    }
    let report = ultravox::webhook::read(&body, &native.causes).map_err(unreadable)?;
    match report {
        Some(report) => commit(&state.0, report, extract::json(&body)?).await,
        None => Ok(receipt(StatusCode::OK, "unchanged")),
    }
}

/// What the agent of an Ultravox call reports as its result, by the tool it was given.
#[utoipa::path(post, path = "/webhooks/ultravox/outcome", tag = "webhooks", params(OurUrl), request_body = Told,
    responses((status = 200, description = "Committed", body = Data<Receipt>),
              (status = 202, description = "Committed; its call is not known yet", body = Data<Receipt>), Problems))]
pub async fn receive_reported_outcome(
    state: State,
    Query(url): Query<OurUrl>,
    request: Request,
) -> Result<Answer, Error> {
    let attempt = named_by_our_url(&state.0.webhooks, &url)?;
    let body = extract::read(request, &state.0).await?;
    let value: Value = extract::json(&body)?;
    let told: Told = extract::fit(value.clone())?;
    let outcome = told.read().map_err(unreadable)?;
    let word = Word::Told { outcome };
    let report = Report { attempt_id: Some(attempt), provider_call_id: None, word, at: None, key: None };
    let answer = commit(&state.0, report, value).await?;
    hold_if_lost(&state.0, true, &answer).await;
    Ok(answer)
}

/// What the carrier says of the phone: JSON events of Telnyx Call Control, or the form of a TeXML callback.
#[utoipa::path(post, path = "/webhooks/telnyx", tag = "webhooks", params(OurUrl),
    request_body(content((Object = "application/json"), (String = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Committed, or nothing we act on", body = Data<Receipt>),
              (status = 202, description = "Committed; its call is not known yet", body = Data<Receipt>), Problems))]
pub async fn receive_telnyx(state: State, Query(url): Query<OurUrl>, request: Request) -> Result<Answer, Error> {
    let headers = request.headers().clone();
    let body = extract::read(request, &state.0).await?;
    let rules = &state.0.webhooks;
    let native = &rules.native;
    let ours = named_by_our_url(rules, &url);
    if url.attempt_id.is_some()
        && let Err(error) = ours
    {
        return Err(error);
    }
    if !native.telnyx_public_key.is_empty() {
        let signed = telnyx::webhook::Headers {
            timestamp: text_of(&headers, "telnyx-timestamp"),
            signature: text_of(&headers, "telnyx-signature-ed25519"),
        };
        let (key, now) = (&native.telnyx_public_key, Utc::now().timestamp());
        if !telnyx::webhook::is_genuine(key, signed, &body, now, native.telnyx_tolerance_secs) {
            return Err(Error::unauthorized(
                "the signature does not fit: ed25519 over telnyx-timestamp, | and the body",
            ));
        }
    } else if let Err(error) = ours {
        return Err(error);
    }
    let is_form = text_of(&headers, "content-type").is_some_and(|kind| kind.starts_with(FORM));
    let (report, value) = if is_form {
        let report = telnyx::webhook::read_form(&body, &native.causes).map_err(unreadable)?;
        (report, Value::String(String::from_utf8_lossy(&body).into_owned()))
    } else {
        (telnyx::webhook::read(&body, &native.causes).map_err(unreadable)?, extract::json(&body)?)
    };
    match report {
        // Our own URL names the attempt for sure; an id that came through the carrier comes second.
        Some(report) => {
            let proven = ours.is_ok();
            let report = Report { attempt_id: ours.ok().or(report.attempt_id), ..report };
            let answer = commit(&state.0, report, value).await?;
            hold_if_lost(&state.0, proven, &answer).await;
            Ok(answer)
        }
        None => Ok(receipt(StatusCode::OK, "unchanged")),
    }
}

/// A webhook that proves by our own token that we dialed an attempt this database does not know: an attempt is committed before anybody
/// is asked, so the commit was lost. Dialing is held until a person has looked.
async fn hold_if_lost(api: &Api, proven: bool, (_, receipt): &Answer) {
    if !proven || receipt.0.data.status != STORED {
        return;
    }
    match within(api.limits.patience, installation::hold(&api.db.work)).await {
        Ok(true) => tracing::error!(
            "dialing is held: a webhook proves an attempt that this database does not know; outdial reconcile asks the provider"
        ),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "dialing could not be held, though commits were lost"),
    }
}

/// The attempt our own URL names, with the proof that it is ours.
fn named_by_our_url(rules: &Rules, url: &OurUrl) -> Result<AttemptId, Error> {
    let attempt = url.attempt_id.as_deref().and_then(|text| text.parse().ok());
    match attempt {
        Some(attempt) if url.token.as_deref().is_some_and(|token| is_ours(rules, attempt, token)) => Ok(attempt),
        _ => Err(Error::unauthorized("only the URL we gave, with its attemptId and token, is accepted here")),
    }
}

/// Whether a URL with this attempt and token is one we gave.
fn is_ours(rules: &Rules, attempt: AttemptId, token: &str) -> bool {
    signature::is_our_token(&rules.token_key, attempt, token)
}

fn unreadable(error: webhook::Error) -> Error {
    Error::invalid_field(error.field, error.message)
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn receipt(status: StatusCode, became: &'static str) -> Answer {
    (status, axum::Json(Data::of(Receipt { status: became })))
}

/// Whether we believe the sender; gives its id of the event where the signature covers one. `named`: by our URL with its token.
/// `unsigned`: what speaks against a request that has neither key nor signature.
fn believe(
    rules: &Rules,
    headers: &HeaderMap,
    body: &[u8],
    named: Option<AttemptId>,
    unsigned: impl FnOnce() -> Result<(), Error>,
) -> Result<Option<String>, Error> {
    let text = |name: &str| text_of(headers, name);
    if rules.keys.is_empty() {
        return match named {
            Some(_) => Ok(None),
            None if rules.loopback => unsigned().map(|()| None),
            None => Err(Error::unauthorized(
                "no webhook secret is set: only the webhookUrl we sent, with its token, is accepted",
            )),
        };
    }
    let signed = Headers {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
        hex: text("x-webhook-signature"),
        hex_timestamp: text("x-webhook-timestamp"),
    };
    match signature::proof(&rules.keys, signed, body, Utc::now().timestamp(), rules.tolerance_secs) {
        Some(Proof::Now { id }) => Ok(id.map(|id| format!("id:{id}"))),
        // It may be replayed, and then changes nothing: the URL says which attempt it is about.
        Some(Proof::AnyTime) if named.is_some() => Ok(None),
        Some(Proof::AnyTime) => Err(Error::unauthorized(
            "this signature is bound to no time: sign X-Webhook-Timestamp, a dot and the body, or use the URL we gave, with its attemptId and token",
        )),
        None => Err(Error::unauthorized(
            "the signature does not fit: Standard Webhooks headers, or sha256= and the hex HMAC-SHA256 of X-Webhook-Timestamp, a dot and the body in X-Webhook-Signature",
        )),
    }
}
