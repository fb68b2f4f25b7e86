//! Prospects: whom a user wants called. And what came of it: appointments, conversations, and what the planner did.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Ids, Json, Query};
use crate::api::faults::{Faults, given};
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::{the_one, user_in_path};
use crate::api::paging::PageQuery;
use crate::api::{Api, State, uploads};
use crate::domain::ids::{AttemptId, ProspectId, UserId};
use crate::domain::prospect::Wish;
use crate::planner::{self, Report};
use crate::queue::{self, NewProspect, ProspectChanges};
use crate::store::prospects::{self, Appointment, Row, Transcribed};
use crate::store::{Named, planning};

/// `POST /users/{id}/prospects`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProspectInput {
    #[schema(min_length = 1, max_length = 255)]
    pub name: Option<String>,
    #[schema(example = "+14155550100")]
    pub phone: String,
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    /// The callee's zone, which outweighs what the number tells.
    #[schema(example = "America/New_York")]
    pub time_zone: Option<String>,
    pub status: Option<Wish>,
    /// A promised time: with it the prospect is RESCHEDULED, and called then.
    pub rescheduled_for: Option<DateTime<Utc>>,
    /// What scripts may name besides prospectName.
    #[schema(value_type = Option<Object>)]
    pub variables: Option<Box<RawValue>>,
}

/// `PATCH …/prospects/{id}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProspectUpdate {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub name: Option<Option<String>>,
    #[schema(example = "+14155550100")]
    pub phone: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub time_zone: Option<Option<String>>,
    pub status: Option<Wish>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub rescheduled_for: Option<Option<DateTime<Utc>>>,
    /// Replaces the old ones.
    #[schema(value_type = Option<Object>)]
    pub variables: Option<Box<RawValue>>,
}

const YEARS_AHEAD_MAX: i64 = 10;

fn check_promise(faults: &mut Faults, at: Option<DateTime<Utc>>) {
    let now = Utc::now();
    if at.is_some_and(|at| at < now - TimeDelta::days(1) || at > now + TimeDelta::days(365 * YEARS_AHEAD_MAX)) {
        faults.add("rescheduledFor", format!("must lie within {YEARS_AHEAD_MAX} years from now"));
    }
}

fn checked_wish(faults: &mut Faults, said: Option<Wish>, promised: bool) -> Wish {
    Wish::with(said, promised).unwrap_or_else(|| {
        faults.add("rescheduledFor", "goes with the status RESCHEDULED only");
        Wish::Initial
    })
}

impl ProspectInput {
    fn read(self, possible: bool) -> Result<NewProspect, Error> {
        let mut faults = Faults::default();
        if let Some(name) = &self.name {
            faults.check_name("name", name);
        }
        if let Some(external_id) = &self.external_id {
            faults.check_external_id(external_id);
        }
        let phone = faults.checked_number("phone", &self.phone, possible);
        let time_zone = self.time_zone.map(|zone| faults.checked_zone("timeZone", &zone));
        check_promise(&mut faults, self.rescheduled_for);
        let status = checked_wish(&mut faults, self.status, self.rescheduled_for.is_some());
        let variables = faults.checked_object("variables", self.variables);
        faults.none()?;
        Ok(NewProspect {
            id: ProspectId(uuid::Uuid::nil()),
            external_id: self.external_id,
            name: self.name,
            phone: phone.ok_or_else(|| Error::invalid_field("phone", "is needed"))?,
            time_zone,
            status: status.as_str(),
            rescheduled_for: self.rescheduled_for,
            variables,
        })
    }
}

async fn find(api: &Api, user: UserId, id: &str) -> Result<Row, Error> {
    the_one(prospects::find(&api.db.read, user, &Named::from(id)).await?, "prospect")
}

async fn shown(api: &Api, user: UserId, id: uuid::Uuid) -> Result<Row, Error> {
    the_one(prospects::find(&api.db.work, user, &Named { id: Some(id), external_id: None }).await?, "prospect")
}

/// Creates a prospect. With a promised time it is called then; otherwise the planner finds the time. A CSV file with a header line
/// (`number` or `phone` needed) is answered with an upload to look at; sent again, it adds what is new.
#[utoipa::path(post, path = "/users/{id}/prospects", tag = "prospects",
    params(("id" = String, Path, description = "The user's id or external id"), ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h; not for CSV")),
    request_body(content((ProspectInput = "application/json"), (String = "text/csv"))),
    responses(
        (status = 201, description = "Created", body = Data<Row>),
        (status = 202, description = "A CSV file was received", body = Data<uploads::Receipt>),
        Problems
    ))]
pub async fn create_prospect(
    state: State,
    caller: Caller,
    Id(id): Id,
    key: Key,
    request: Request,
) -> Result<Response<Body>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    if uploads::is_csv(request.headers()) {
        let receipt = uploads::receive(&state.0, user, None, request).await?;
        return Ok((StatusCode::ACCEPTED, axum::Json(Data::of(receipt))).into_response());
    }
    let input = Json::<ProspectInput>::from_request(request, &state.0).await?;
    let draft = input.body.read(state.0.limits.refuses_impossible)?;
    let api = Arc::clone(&state.0);
    once(&state.0, caller.itself(), key, &input.hash, move |seed| async move {
        let new = [NewProspect { id: ProspectId(seed), ..draft }];
        if queue::create_prospects(&api.db.work, user, &new).await?.is_empty() {
            return Err(Error::conflict(
                "duplicate_prospect",
                "the user has a prospect with this number or external id already",
            ));
        }
        api.doorbell.ring();
        Answer::json(StatusCode::CREATED, &Data::of(shown(&api, user, seed).await?))
    })
    .await
}

/// A user's prospects, newest first.
#[utoipa::path(get, path = "/users/{id}/prospects", tag = "prospects", params(("id" = String, Path, description = "The user's id or external id"), PageQuery),
    responses((status = 200, description = "A page of prospects", body = Page<Row>), Problems))]
pub async fn list_prospects(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Row>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = prospects::list(&state.0.db.read, user, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |prospect| prospect.id)))
}

/// One prospect.
#[utoipa::path(get, path = "/users/{id}/prospects/{prospect}", tag = "prospects",
    params(("id" = String, Path, description = "The user's id or external id"), ("prospect" = String, Path, description = "Id or external id")),
    responses((status = 200, description = "The prospect", body = Data<Row>), Problems))]
pub async fn get_prospect(
    state: State,
    caller: Caller,
    Ids(id, prospect): Ids,
) -> Result<axum::Json<Data<Row>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok(axum::Json(Data::of(find(&state.0, user, &prospect).await?)))
}

/// Changes a prospect; its waiting call follows.
#[utoipa::path(patch, path = "/users/{id}/prospects/{prospect}", tag = "prospects",
    params(("id" = String, Path, description = "The user's id or external id"), ("prospect" = String, Path, description = "Id or external id")),
    request_body = ProspectUpdate, responses((status = 200, description = "The prospect as it is now", body = Data<Row>), Problems))]
pub async fn update_prospect(
    state: State,
    caller: Caller,
    Ids(id, prospect): Ids,
    changes: Json<ProspectUpdate>,
) -> Result<axum::Json<Data<Row>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = find(&state.0, user, &prospect).await?;
    let body = changes.body;
    let mut faults = Faults::default();
    if let Some(Some(name)) = &body.name {
        faults.check_name("name", name);
    }
    let phone = body.phone.and_then(|phone| faults.checked_number("phone", &phone, state.0.limits.refuses_impossible));
    let time_zone = body.time_zone.map(|zone| zone.map(|zone| faults.checked_zone("timeZone", &zone)));
    check_promise(&mut faults, body.rescheduled_for.flatten());
    let variables = body.variables.map(|variables| faults.checked_object("variables", Some(variables)));
    let promised = body.rescheduled_for.flatten().is_some();
    let is_said = promised || body.status.is_some();
    let status = is_said.then(|| checked_wish(&mut faults, body.status, promised));
    faults.none()?;
    let to = ProspectChanges {
        name: body.name,
        phone,
        time_zone,
        status: status.map(Wish::as_str),
        rescheduled_for: body.rescheduled_for,
        variables,
        deleted: false,
    };
    change(&state.0, row.id, to).await?;
    Ok(axum::Json(Data::of(shown(&state.0, user, row.id).await?)))
}

/// Writes it, and answers only when nothing claimed before can still be sent unseen.
async fn change(api: &Arc<Api>, id: uuid::Uuid, to: ProspectChanges) -> Result<(), Error> {
    let inner = Arc::clone(api);
    api.detached(async move {
        queue::update_prospect(&inner.db.work, id, &to).await?;
        if to.deleted || to.status.is_some() {
            tokio::time::sleep(inner.limits.look_again_after).await;
        }
        inner.doorbell.ring();
        Ok(())
    })
    .await
}

/// Deletes a prospect: its waiting call is canceled, what was said stays readable.
#[utoipa::path(delete, path = "/users/{id}/prospects/{prospect}", tag = "prospects",
    params(("id" = String, Path, description = "The user's id or external id"), ("prospect" = String, Path, description = "Id or external id")),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_prospect(state: State, caller: Caller, Ids(id, prospect): Ids) -> Result<StatusCode, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = find(&state.0, user, &prospect).await?;
    change(&state.0, row.id, ProspectChanges { deleted: true, ..ProspectChanges::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the last planning batch did for a user, or why it skipped them.
#[utoipa::path(get, path = "/users/{id}/planning", tag = "prospects", params(("id" = String, Path, description = "The user's id or external id")),
    responses((status = 200, description = "The last report", body = Data<Report>), Problems))]
pub async fn get_planning(state: State, caller: Caller, Id(id): Id) -> Result<axum::Json<Data<Report>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let report = planning::last(&state.0.db.read, user).await?;
    Ok(axum::Json(Data::of(
        report.and_then(|report| report.read::<Report>()).ok_or_else(|| Error::not_found("planning report"))?,
    )))
}

/// Plans a batch of users now: those longest unplanned. Needs an admin key.
#[utoipa::path(post, path = "/scheduler/plan", tag = "prospects",
    responses((status = 200, description = "What was planned and skipped", body = Data<Vec<Report>>), Problems))]
pub async fn plan_now(state: State, caller: Caller) -> Result<axum::Json<Data<Vec<Report>>>, Error> {
    caller.require_admin()?;
    let api = Arc::clone(&state.0);
    state
        .0
        .detached(async move {
            let reports = planner::plan(&api.db.work, api.limits.planner).await?;
            api.doorbell.ring();
            Ok(axum::Json(Data::of(reports)))
        })
        .await
}

/// Appointments, newest first.
#[utoipa::path(get, path = "/appointments", tag = "prospects", params(PageQuery),
    responses((status = 200, description = "A page of appointments", body = Page<Appointment>), Problems))]
pub async fn list_appointments(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Appointment>>, Error> {
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = prospects::appointments(&state.0.db.read, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |appointment| appointment.id)))
}

/// One conversation, with its transcript.
#[utoipa::path(get, path = "/conversations/{id}", tag = "prospects", params(("id" = String, Path, description = "The conversation's id")),
    responses((status = 200, description = "The conversation", body = Data<Transcribed>), Problems))]
pub async fn get_conversation(
    state: State,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<Data<Transcribed>>, Error> {
    let id: AttemptId = id.parse().map_err(|_| Error::not_found("conversation"))?;
    let row = prospects::conversation(&state.0.db.read, id, caller.scope()).await?;
    Ok(axum::Json(Data::of(row.ok_or_else(|| Error::not_found("conversation"))?)))
}
