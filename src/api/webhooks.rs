//! What providers tell us. An event is answered 2xx only after it is committed; 202 when its call is not known yet.

use std::sync::Arc;

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
use crate::domain::ids::AttemptId;
use crate::outcome::Became;
use crate::outcome::inbox::{Heard, Meant};
use crate::outcome::storable;
use crate::provider::signature::{self, Headers};
use crate::provider::webhook::{self, OutcomeReport, Report, StatusReport};

/// Whom we believe.
#[derive(Debug)]
pub struct Rules {
    /// Set: every webhook needs a signature by one of them.
    pub secrets: Vec<SecretString>,
    pub tolerance_secs: u64,
    /// Without a secret: believed unsigned on a loopback bind; elsewhere only with the token of our URL.
    pub loopback: bool,
    /// Key of the tokens.
    pub token_key: Vec<u8>,
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
    /// applied; unchanged: known or outweighed already; stored: its call is not known yet.
    #[schema(example = "applied")]
    pub status: &'static str,
}

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
    let headers = request.headers().clone();
    let named = url.attempt_id.as_deref().map(str::parse::<AttemptId>).transpose();
    let named = named.map_err(|_| Error::invalid_field("attemptId", "is not an id of ours"))?;
    let body = extract::read(request, api).await?;
    let event_id = believe(&api.webhooks, &headers, &body, named, url.token.as_deref())?;
    let value: Value = extract::json(&body)?;
    let report = read(extract::fit(value.clone())?).map_err(|e| Error::invalid_field(e.field, e.message))?;
    let about = match (named.or(report.attempt_id), report.provider_call_id) {
        (Some(attempt), _) => Meant::Attempt(attempt),
        (None, Some(id)) if !id.is_empty() && id.len() <= 500 && !id.contains('\0') => Meant::ProviderCall(id),
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
    let heard =
        Heard { about, word: clean(report.word), key: event_id, source: "webhook", body: Some(storable(value)) };
    match api.inbox.hear(heard).await {
        Ok(Became::Applied) => Ok(receipt(StatusCode::OK, "applied")),
        Ok(Became::Unchanged) => Ok(receipt(StatusCode::OK, "unchanged")),
        Ok(Became::Stray) => Ok(receipt(StatusCode::ACCEPTED, "stored")),
        Err(error) => Err(Error::unavailable(error.into())),
    }
}

fn receipt(status: StatusCode, became: &'static str) -> Answer {
    (status, axum::Json(Data::of(Receipt { status: became })))
}

/// A word without characters that Postgres cannot keep.
fn clean(word: crate::domain::word::Word) -> crate::domain::word::Word {
    let value = serde_json::to_value(&word).map(storable);
    value.and_then(serde_json::from_value).unwrap_or(word)
}

/// Whether we believe the sender; gives its id of the event where the signature covers one.
fn believe(
    rules: &Rules,
    headers: &HeaderMap,
    body: &[u8],
    named: Option<AttemptId>,
    token: Option<&str>,
) -> Result<Option<String>, Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if rules.secrets.is_empty() {
        let by_token = || {
            named.zip(token).is_some_and(|(attempt, token)| signature::is_our_token(&rules.token_key, attempt, token))
        };
        return if rules.loopback || by_token() {
            Ok(None)
        } else {
            Err(Error::unauthorized(
                "no webhook secret is set: only the webhookUrl we sent, with its token, is accepted",
            ))
        };
    }
    let signed = Headers {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
        plain: text("x-webhook-signature"),
    };
    if !signature::is_genuine(&rules.secrets, signed, body, Utc::now().timestamp(), rules.tolerance_secs) {
        return Err(Error::unauthorized(
            "the signature does not fit: Standard Webhooks headers, or hex HMAC-SHA256 of the body in X-Webhook-Signature",
        ));
    }
    Ok(signed.id.filter(|_| signed.signature.is_some() && signed.plain.is_none()).map(|id| format!("id:{id}")))
}
