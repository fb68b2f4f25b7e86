//! New calls: one, one at a time to come, or a list with a verdict for each row.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::body::Whole;
use crate::api::calls::closed_for_good;
use crate::api::calls::input::CallInput;
use crate::api::calls::{Call, Payload};
use crate::api::envelope::Data;
use crate::api::error::{Error, FieldError, Problems};
use crate::api::extract::{self, Json};
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::owner_of;
use crate::api::rows::{Rows, Shape};
use crate::api::{Api, State, usage};
use crate::domain::call::{CallStatus, Priority};
use crate::domain::ids::{CallId, UserId, grown_from};
use crate::queue::{NewCall, Verdict, windows};
use crate::store::calls;

/// Creates a call. It is dialed at once when a slot is free, or when its time comes.
#[utoipa::path(post, path = "/calls", tag = "calls",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = CallInput,
    responses((status = 201, description = "Created", body = Data<Call>), Problems))]
pub async fn create_call(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<CallInput>,
) -> Result<Response<Body>, Error> {
    create(&state.0, caller, key, input).await
}

/// Creates a call for a time: `scheduledAt` is needed.
#[utoipa::path(post, path = "/calls/schedule", tag = "calls",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = CallInput,
    responses((status = 201, description = "Created", body = Data<Call>), Problems))]
pub async fn schedule_call(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<CallInput>,
) -> Result<Response<Body>, Error> {
    if input.body.scheduled_at.is_none() {
        return Err(Error::invalid_field("scheduledAt", "is needed here"));
    }
    create(&state.0, caller, key, input).await
}

async fn create(api: &Arc<Api>, caller: Caller, key: Key, input: Json<CallInput>) -> Result<Response<Body>, Error> {
    let user = owner_of(api, caller, input.body.user_id.as_deref()).await?;
    allow_ignoring_windows(caller, &input.body)?;
    // Faults are found before the key is used up: a corrected request may come under the same key.
    let draft = input.body.read(CallId(Uuid::nil()), user, api.limits.max_attempts, Utc::now())?;
    let inner = Arc::clone(api);
    once(api, caller.itself(), key, &input.hash, move |seed| async move {
        // Within: a repeat is given the first answer, whatever waits by then.
        usage::admit_calls(&inner, user, 1).await?;
        let mut call = [NewCall { id: CallId(seed), ..draft }];
        let closed = windows::place(&inner.db.work, &mut call, inner.limits.sorts_operator).await?;
        if let [Some(why)] = closed[..] {
            return Err(closed_for_good(why, "to", call.first().map(|call| &call.phone)));
        }
        let [call] = call;
        let verdicts = inner.enqueuer.enqueue(vec![call.clone()]).await?;
        let verdict = verdicts.first().copied().unwrap_or(Verdict::Exists);
        Answer::json(StatusCode::CREATED, &Data::of(created(&inner, call, verdict).await?))
    })
    .await
}

fn allow_ignoring_windows(caller: Caller, input: &CallInput) -> Result<(), Error> {
    if input.ignore_window == Some(true) {
        caller.require_admin()?;
        tracing::warn!("an admin creates a call that ignores calling windows");
    }
    Ok(())
}

/// The created call as it is shown, or why there is none.
async fn created(api: &Api, call: NewCall, verdict: Verdict) -> Result<Call, Error> {
    match verdict {
        Verdict::Created { created_at, due_at } => Ok(shown(call, created_at, due_at)),
        Verdict::Suppressed => Err(Error::conflict("do_not_call", "the number is on a do-not-call list")),
        Verdict::Duplicate { of } => Err(Error::duplicate_call(of)),
        Verdict::Exists => match calls::get(&api.db.read, call.id, None).await? {
            // A repeat of a request whose answer was lost.
            Some(row) => Ok(row.into()),
            None => {
                Err(Error::conflict("external_id_taken", "externalId: the user has another call with this external id"))
            }
        },
    }
}

fn shown(call: NewCall, created_at: DateTime<Utc>, due_at: DateTime<Utc>) -> Call {
    Call {
        id: call.id.0,
        user_id: call.user_id.0,
        campaign_id: call.campaign_id.map(|campaign| campaign.0),
        external_id: call.external_id,
        payload: Payload {
            to: call.phone.into(),
            script_id: call.script_id,
            metadata: call.metadata,
            variables: call.variables,
        },
        status: CallStatus::Pending,
        attempts: 0,
        max_attempts: call.dials_max,
        priority: Priority::of_rank(call.priority),
        scheduled_at: due_at,
        expires_at: call.expires_at,
        time_zone: call.time_zone,
        disposition: None,
        created_at,
        updated_at: created_at,
        ended_at: None,
        next_attempt_at: Some(due_at),
    }
}

/// `POST /calls/batch`. For the document: the rows are read one by one.
#[derive(Clone, Debug, ToSchema)]
pub struct BatchInput {
    /// Up to 10,000; each as in `POST /calls`. A bad row does not spoil the others.
    #[schema(min_items = 1, max_items = 10000)]
    pub calls: Vec<CallInput>,
}

/// What became of each row.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchReport {
    pub accepted: usize,
    pub rejected: usize,
    pub rows: Vec<BatchRow>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchRow {
    /// Counted from 1, in the order given.
    pub row: usize,
    pub status: RowStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Uuid>,
    /// A stable code, as single calls are refused with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowStatus {
    Accepted,
    Rejected,
}

impl BatchRow {
    fn new(nth: usize, outcome: Result<CallId, Error>) -> Self {
        match outcome {
            Ok(call) => Self {
                row: nth + 1,
                status: RowStatus::Accepted,
                call_id: Some(call.0),
                code: None,
                reason: None,
                errors: Vec::new(),
            },
            Err(error) => Self {
                row: nth + 1,
                status: RowStatus::Rejected,
                call_id: None,
                code: Some(error.code()),
                reason: Some(error.detail().to_owned()),
                errors: error.fields().to_vec(),
            },
        }
    }
}

/// Creates up to 10,000 calls, a verdict for each; good rows are kept.
#[utoipa::path(post, path = "/calls/batch", tag = "calls",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = BatchInput,
    responses((status = 201, description = "A verdict for each row", body = Data<BatchReport>), Problems))]
pub async fn create_calls(state: State, caller: Caller, key: Key, request: Request) -> Result<Response<Body>, Error> {
    let api = &state.0;
    extract::require_json(request.headers())?;
    let shape = Shape {
        field: "calls",
        name: "BatchInput",
        rows_max: api.limits.batch_rows_max,
        hint: "",
        row_bytes_max: api.limits.body_bytes_max,
    };
    let whole = Whole::read(request, api).await?;
    let rows = extract::aside(whole, move |whole| Rows::find(whole, shape)).await?;
    let inner = Arc::clone(api);
    let hash = rows.hash.clone();
    once(api, caller.itself(), key, &hash, move |seed| async move {
        let report = create_rows(&inner, caller, seed, rows).await?;
        Answer::json(StatusCode::CREATED, &Data::of(report))
    })
    .await
}

async fn create_rows(api: &Api, caller: Caller, seed: Uuid, rows: Rows) -> Result<BatchReport, Error> {
    let mut known_users = HashMap::new();
    let mut report = BatchReport { accepted: 0, rejected: 0, rows: Vec::with_capacity(rows.len()) };
    while report.rows.len() < rows.len() {
        let base = report.rows.len();
        let chunk = rows.chunk(base, |row| extract::one::<CallInput>(row?.as_bytes())).await?;
        let outcomes =
            create_chunk(api, caller, &mut known_users, |nth| CallId(grown_from(seed, base + nth)), chunk).await?;
        report.rows.extend(outcomes.into_iter().enumerate().map(|(nth, outcome)| BatchRow::new(base + nth, outcome)));
    }
    report.accepted = report.rows.iter().filter(|row| row.status == RowStatus::Accepted).count();
    report.rejected = report.rows.len() - report.accepted;
    Ok(report)
}

/// One insert for the good rows of a chunk; an outcome for each row.
async fn create_chunk(
    api: &Api,
    caller: Caller,
    known_users: &mut HashMap<Option<String>, UserId>,
    id_of: impl Fn(usize) -> CallId,
    rows: Vec<Result<CallInput, Error>>,
) -> Result<Vec<Result<CallId, Error>>, Error> {
    let mut outcomes = Vec::with_capacity(rows.len());
    let (mut nths, mut calls) = (Vec::new(), Vec::new());
    for (nth, row) in rows.into_iter().enumerate() {
        let read = match row {
            Ok(input) => read_row(api, caller, known_users, id_of(nth), input).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(call) => {
                outcomes.push(Ok(call.id));
                nths.push(nth);
                calls.push(call);
            }
            Err(error) if error.status().is_server_error() => return Err(error),
            Err(error) => outcomes.push(Err(error)),
        }
    }
    let closed = windows::place(&api.db.work, &mut calls, api.limits.sorts_operator).await?;
    let mut set = |nth: usize, outcome| {
        if let Some(slot) = outcomes.get_mut(nth) {
            *slot = outcome;
        }
    };
    let mut placed = Vec::with_capacity(calls.len());
    let mut new = Vec::with_capacity(calls.len());
    for ((nth, call), closed) in nths.into_iter().zip(calls).zip(closed) {
        if let Some(why) = closed {
            set(nth, Err(closed_for_good(why, "to", Some(&call.phone))));
        } else {
            placed.push(nth);
            new.push(call);
        }
    }
    if new.is_empty() {
        return Ok(outcomes);
    }
    let verdicts = api.enqueuer.enqueue(new.clone()).await?;
    for ((nth, call), verdict) in placed.into_iter().zip(new).zip(verdicts) {
        if !matches!(verdict, Verdict::Created { .. }) {
            set(nth, created(api, call, verdict).await.map(|call| CallId(call.id)));
        }
    }
    Ok(outcomes)
}

async fn read_row(
    api: &Api,
    caller: Caller,
    known_users: &mut HashMap<Option<String>, UserId>,
    id: CallId,
    input: CallInput,
) -> Result<NewCall, Error> {
    let user = match known_users.get(&input.user_id) {
        Some(user) => *user,
        None => {
            let user = owner_of(api, caller, input.user_id.as_deref()).await?;
            known_users.insert(input.user_id.clone(), user);
            user
        }
    };
    allow_ignoring_windows(caller, &input)?;
    let call = input.read(id, user, api.limits.max_attempts, Utc::now())?;
    usage::admit_calls(api, user, 1).await?;
    Ok(call)
}
