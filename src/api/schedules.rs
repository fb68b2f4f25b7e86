//! Schedules: weekly hours in a time zone, with dates on which nobody is called. A change acts at once on every call that waits by it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::calls::read::Whose;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json, Query};
use crate::api::faults::Faults;
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::{owner_of, scope_in_path, the_one};
use crate::api::paging::PageQuery;
use crate::api::{Api, State};
use crate::domain::hours::Span;
use crate::domain::ids::ScheduleId;
use crate::queue::windows::{self, Scope};
use crate::store::Named;
use crate::store::schedules::{self, Changes, New, Row};

/// `POST /schedules`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleInput {
    pub user_id: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub name: String,
    #[schema(example = "America/New_York")]
    pub time_zone: String,
    /// Several spans a day may stand side by side; one that closes at or before it opens runs past midnight.
    #[schema(min_items = 1, max_items = 100)]
    pub hours: Vec<Span>,
    /// Local dates on which nobody is called.
    #[schema(max_items = 1000)]
    pub closed_dates: Option<Vec<NaiveDate>>,
}

/// `PATCH /schedules/{id}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleChanges {
    #[schema(min_length = 1, max_length = 255)]
    pub name: Option<String>,
    pub time_zone: Option<String>,
    #[schema(min_items = 1, max_items = 100)]
    pub hours: Option<Vec<Span>>,
    #[schema(max_items = 1000)]
    pub closed_dates: Option<Vec<NaiveDate>>,
}

/// The schedule a path means.
///
/// # Errors
/// 404, or 409 when an external id fits several users' schedules.
pub async fn find(api: &Api, caller: Caller, id: &str, whose: &Whose) -> Result<Row, Error> {
    let scope = scope_in_path(api, caller, whose.user_id.as_deref()).await?;
    the_one(schedules::find(&api.db.read, &Named::from(id), scope).await?, "schedule")
}

async fn shown(api: &Api, id: ScheduleId) -> Result<Row, Error> {
    the_one(schedules::find(&api.db.work, &Named { id: Some(id.0), external_id: None }, None).await?, "schedule")
}

/// Creates a schedule.
#[utoipa::path(post, path = "/schedules", tag = "campaigns", params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = ScheduleInput, responses((status = 201, description = "Created", body = Data<Row>), Problems))]
pub async fn create_schedule(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<ScheduleInput>,
) -> Result<Response<Body>, Error> {
    let body = input.body;
    let mut faults = Faults::default();
    faults.check_name("name", &body.name);
    if let Some(external_id) = &body.external_id {
        faults.check_external_id(external_id);
    }
    let time_zone = faults.checked_zone("timeZone", &body.time_zone);
    faults.check_hours(&body.hours);
    let closed_dates = faults.checked_dates("closedDates", body.closed_dates.unwrap_or_default());
    faults.check_opens(&time_zone, &body.hours, &closed_dates);
    faults.none()?;
    let user_id = owner_of(&state.0, caller, body.user_id.as_deref()).await?;
    let draft = New {
        id: ScheduleId(uuid::Uuid::nil()),
        user_id,
        name: body.name,
        time_zone,
        hours: body.hours,
        closed_dates,
        external_id: body.external_id,
    };
    let api = Arc::clone(&state.0);
    once(&state.0, caller.itself(), key, &input.hash, move |seed| async move {
        let id = ScheduleId(seed);
        schedules::create(&api.db.work, &New { id, ..draft }).await?;
        Answer::json(StatusCode::CREATED, &Data::of(shown(&api, id).await?))
    })
    .await
}

/// Schedules, newest first.
#[utoipa::path(get, path = "/schedules", tag = "campaigns", params(PageQuery),
    responses((status = 200, description = "A page of schedules", body = Page<Row>), Problems))]
pub async fn list_schedules(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Row>>, Error> {
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = schedules::list(&state.0.db.read, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |schedule| schedule.id)))
}

/// One schedule.
#[utoipa::path(get, path = "/schedules/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The schedule", body = Data<Row>), Problems))]
pub async fn get_schedule(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Row>>, Error> {
    Ok(axum::Json(Data::of(find(&state.0, caller, &id, &whose).await?)))
}

/// Changes a schedule; calls that wait by it follow at once.
#[utoipa::path(patch, path = "/schedules/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose), request_body = ScheduleChanges,
    responses((status = 200, description = "The schedule as it is now", body = Data<Row>), Problems))]
pub async fn update_schedule(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
    changes: Json<ScheduleChanges>,
) -> Result<axum::Json<Data<Row>>, Error> {
    let now = find(&state.0, caller, &id, &whose).await?;
    let id = ScheduleId(now.id);
    let mut faults = Faults::default();
    if let Some(name) = &changes.body.name {
        faults.check_name("name", name);
    }
    let time_zone = changes.body.time_zone.map(|zone| faults.checked_zone("timeZone", &zone));
    if let Some(hours) = &changes.body.hours {
        faults.check_hours(hours);
    }
    let closed_dates = changes.body.closed_dates.map(|dates| faults.checked_dates("closedDates", dates));
    let hours_then = match &changes.body.hours {
        Some(hours) => hours.clone(),
        None => now.hours.read().unwrap_or_default(),
    };
    let dates_then = closed_dates.clone().unwrap_or(now.closed_dates);
    faults.check_opens(time_zone.as_deref().unwrap_or(&now.time_zone), &hours_then, &dates_then);
    faults.none()?;
    let to = Changes { name: changes.body.name, time_zone, hours: changes.body.hours, closed_dates };
    let api = Arc::clone(&state.0);
    state
        .0
        .detached(async move {
            let mut change = windows::change(&api.db.work).await?;
            schedules::update(&mut change, id, &to).await?;
            windows::commit(&api.db.work, change, Scope::Schedule(id)).await?;
            api.doorbell.ring();
            Ok(axum::Json(Data::of(shown(&api, id).await?)))
        })
        .await
}

/// Deletes a schedule no campaign follows.
#[utoipa::path(delete, path = "/schedules/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_schedule(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<StatusCode, Error> {
    let schedule = find(&state.0, caller, &id, &whose).await?;
    schedules::delete(&state.0.db.work, ScheduleId(schedule.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
