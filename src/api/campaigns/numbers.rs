//! Numbers for a campaign: one, a list, or a CSV file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::body::Whole;
use crate::api::calls::CallDetail;
use crate::api::calls::closed_for_good;
use crate::api::calls::create::RowStatus;
use crate::api::calls::read::{Whose, detail};
use crate::api::campaigns::find;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{self, Id, Query};
use crate::api::faults::Faults;
use crate::api::idempotent::{Answer, Key, once};
use crate::api::rows::{OneOrList, Rows, Shape};
use crate::api::{Api, State, uploads, usage};
use crate::domain::ids::{CallId, CampaignId, UserId, grown_from};
use crate::domain::phone::PhoneNumber;
use crate::domain::window::ClosedBy;
use crate::queue::recruit::{self, Reason, Recruit, recruit};
use crate::store::campaigns::Row;

/// A number, and what is known about who has it.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NumberInput {
    #[schema(example = "+14155550100")]
    pub number: String,
    /// Given to the script as prospectName.
    pub name: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    /// The callee's zone, which outweighs what the number tells.
    #[schema(example = "America/New_York")]
    pub time_zone: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub variables: Option<Box<RawValue>>,
}

/// A number alone, or with more.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ListedNumber {
    Bare(String),
    Known(NumberInput),
}

/// A list of numbers; a bad row does not spoil the others. For the document: the rows are read one by one.
#[derive(Clone, Debug, ToSchema)]
pub struct NumberList {
    #[schema(min_items = 1, max_items = 10000)]
    pub numbers: Vec<ListedNumber>,
}

/// One number, or a list. For the document: the body is told apart by its fields.
#[derive(Clone, Debug, ToSchema)]
#[serde(untagged)]
pub enum NumbersInput {
    One(NumberInput),
    List(NumberList),
}

/// What became of each row.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NumbersReport {
    pub accepted: usize,
    pub rejected: usize,
    pub rows: Vec<NumberRow>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NumberRow {
    /// Counted from 1, in the order given.
    pub row: usize,
    /// As it was given.
    pub number: String,
    pub status: RowStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Uuid>,
    /// INVALID_NUMBER, DUPLICATE_IN_CAMPAIGN, DO_NOT_CALL, WINDOW_NEVER_OPENS, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong with the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a number became. For the document: each is answered by itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum NumbersAdded {
    One(Box<CallDetail>),
    List(NumbersReport),
}

impl NumberInput {
    /// How large variables may be is said with the verdict of the row.
    fn read(self) -> Result<Recruit, Error> {
        let mut faults = Faults::default();
        let variables = faults.checked_json("variables", self.variables, usize::MAX).unwrap_or_default().fields();
        if variables.is_none() {
            faults.add("variables", "must be an object");
        }
        faults.none()?;
        Ok(Recruit {
            number: self.number,
            name: self.name,
            external_id: self.external_id,
            time_zone: self.time_zone,
            variables: variables.unwrap_or_default(),
            ..Recruit::default()
        })
    }
}

fn into_of(campaign: &Row) -> recruit::Into {
    let (id, user) = (CampaignId(campaign.id), UserId(campaign.user_id));
    recruit::Into::new(id, user, campaign.script_id.clone(), campaign.max_retries)
}

/// Adds one number, a list of them, or a CSV file with a header line (`number` or `phone` needed). A number is in a campaign once.
/// A CSV file is answered with an upload to look at; sent again, it adds what is new.
#[utoipa::path(post, path = "/campaigns/{id}/phone-numbers", tag = "campaigns",
    params(("id" = String, Path, description = "Id or external id"), Whose, ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h; not for CSV")),
    request_body(content((NumbersInput = "application/json"), (String = "text/csv"))),
    responses(
        (status = 201, description = "The call, or a verdict for each row", body = Data<NumbersAdded>),
        (status = 202, description = "A CSV file was received", body = Data<uploads::Receipt>),
        Problems
    ))]
pub async fn add_numbers(
    state: State,
    caller: Caller,
    key: Key,
    Id(id): Id,
    Query(whose): Query<Whose>,
    request: Request,
) -> Result<Response<Body>, Error> {
    let api = &state.0;
    let campaign = find(api, caller, &id, &whose).await?;
    if campaign.canceled_at.is_some() {
        return Err(Error::conflict("wrong_state", "the campaign is canceled for good"));
    }
    if uploads::is_csv(request.headers()) {
        let (user, id) = (UserId(campaign.user_id), CampaignId(campaign.id));
        let receipt = uploads::receive(api, user, Some(id), request).await?;
        return Ok((StatusCode::ACCEPTED, axum::Json(Data::of(receipt))).into_response());
    }
    extract::require_json(request.headers())?;
    let shape = Shape {
        field: "numbers",
        name: "NumberList",
        rows_max: api.limits.batch_rows_max,
        hint: "; send longer lists as text/csv",
        row_bytes_max: api.limits.body_bytes_max,
    };
    let whole = Whole::read(request, api).await?;
    let inner = Arc::clone(api);
    match extract::aside(whole, move |whole| OneOrList::<NumberInput>::read(whole, shape)).await? {
        OneOrList::List(rows) => {
            let hash = rows.hash.clone();
            once(api, caller.itself(), key, &hash, move |seed| async move {
                usage::admit_calls(&inner, UserId(campaign.user_id), rows.len()).await?;
                let report = add_list(&inner, &campaign, seed, rows).await?;
                inner.doorbell.ring();
                Answer::json(StatusCode::CREATED, &Data::of(report))
            })
            .await
        }
        OneOrList::One { body, hash, room } => {
            once(api, caller.itself(), key, &hash, move |seed| async move {
                let call = add_one(&inner, &campaign, CallId(seed), body).await?;
                drop(room);
                inner.doorbell.ring();
                Answer::json(StatusCode::CREATED, &Data::of(call))
            })
            .await
        }
    }
}

async fn add_one(api: &Api, campaign: &Row, id: CallId, input: NumberInput) -> Result<CallDetail, Error> {
    usage::admit_calls(api, UserId(campaign.user_id), 1).await?;
    let wrong = wrong_with(&input.number);
    let verdicts = recruit(&api.db.work, &into_of(campaign), vec![input.read()?], |_| id).await?;
    match verdicts.into_iter().next() {
        Some(Ok(call)) => detail(api, call, None).await,
        Some(Err(Reason::InvalidNumber | Reason::Closed(ClosedBy::InvalidNumber))) if wrong.is_some() => {
            Err(Error::invalid_field("number", format!("{}; an example is +14155550100", wrong.unwrap_or_default())))
        }
        Some(Err(reason)) => Err(error_of(reason)),
        None => Err(Error::invalid_field("number", "is needed")),
    }
}

fn error_of(reason: Reason) -> Error {
    match reason {
        Reason::InvalidNumber => {
            Error::invalid_field("number", "is no E.164 number, such as +14155550100, or is known to be invalid")
        }
        Reason::InvalidTimeZone => {
            Error::invalid_field("timeZone", "is not an IANA time zone, such as America/New_York")
        }
        Reason::InvalidExternalId => Error::invalid_field("externalId", "must have 1 to 255 characters and be no UUID"),
        Reason::VariablesTooLarge => Error::invalid_field("variables", "may have at most 32768 bytes as JSON"),
        Reason::InvalidStatus => Error::invalid_field("status", "is none there is"),
        Reason::DuplicateInCampaign => {
            Error::conflict("duplicate_in_campaign", "the campaign has a call to this number already")
        }
        Reason::DuplicateProspect => Error::conflict("duplicate_prospect", "the user has this prospect already"),
        Reason::ExternalIdTaken => {
            Error::conflict("external_id_taken", "externalId: the user has another call with this external id")
        }
        Reason::Unreadable => Error::invalid_field("", "cannot be stored"),
        Reason::QuotaExceeded => Error::quota("the user has as many calls waiting as it may"),
        Reason::DoNotCall => Error::conflict("do_not_call", "the number is on a do-not-call list"),
        Reason::Closed(why) => closed_for_good(why, "number", None),
    }
}

/// What of a number is shown with its verdict: no number has as many characters.
const SHOWN_CHARS_MAX: usize = 100;

async fn add_list(api: &Api, campaign: &Row, seed: Uuid, rows: Rows) -> Result<NumbersReport, Error> {
    let into = into_of(campaign);
    let mut report = NumbersReport { accepted: 0, rejected: 0, rows: Vec::with_capacity(rows.len()) };
    while report.rows.len() < rows.len() {
        let base = report.rows.len();
        let read = rows.chunk(base, read_row).await?;
        let (recruits, faults): (Vec<Recruit>, Vec<Option<String>>) = read.into_iter().unzip();
        let shown = |recruit: &Recruit| recruit.number.chars().take(SHOWN_CHARS_MAX).collect();
        let numbers: Vec<String> = recruits.iter().map(shown).collect();
        let verdicts = recruit(&api.db.work, &into, recruits, |nth| CallId(grown_from(seed, base + nth))).await?;
        for (nth, ((verdict, fault), number)) in verdicts.into_iter().zip(faults).zip(numbers).enumerate() {
            let reason = match (&verdict, fault) {
                (_, Some(fault)) => Some(fault),
                (Err(reason), None) => Some(reason.as_str().to_owned()),
                (Ok(_), None) => None,
            };
            let is_number = matches!(verdict, Err(Reason::InvalidNumber | Reason::Closed(ClosedBy::InvalidNumber)));
            let detail = wrong_with(&number).filter(|_| is_number && reason.as_deref() == Some("INVALID_NUMBER"));
            let status = if reason.is_none() { RowStatus::Accepted } else { RowStatus::Rejected };
            let call_id = verdict.ok().filter(|_| reason.is_none()).map(|call| call.0);
            report.rows.push(NumberRow { row: base + nth + 1, number, status, call_id, reason, detail });
        }
    }
    report.accepted = report.rows.iter().filter(|row| row.status == RowStatus::Accepted).count();
    report.rejected = report.rows.len() - report.accepted;
    Ok(report)
}

/// What is wrong with a number, for the person who wrote it; none: it is known to be invalid.
fn wrong_with(number: &str) -> Option<String> {
    match PhoneNumber::parse(number) {
        Err(error) => Some(error.to_string()),
        Ok(number) => number.impossible().map(str::to_owned),
    }
}

/// A row as far as it can be read, and what is wrong with its shape; such a row has no number and is rejected.
fn read_row(row: Result<&str, Error>) -> (Recruit, Option<String>) {
    let read = row.and_then(|row| match serde_json::from_str::<String>(row) {
        Ok(number) if !number.contains('\0') => Ok(NumberInput { number, ..NumberInput::default() }),
        _ => extract::one::<NumberInput>(row.as_bytes()),
    });
    match read.and_then(NumberInput::read) {
        Ok(recruit) => (recruit, None),
        Err(error) => (Recruit::default(), Some(error.detail().to_owned())),
    }
}
