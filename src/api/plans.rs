//! Plans and subscriptions: what a user may use. An admin writes them; a user's key reads its own.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json, Query};
use crate::api::faults::{Faults, given};
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::{the_one, user_in_path};
use crate::api::paging::PageQuery;
use crate::api::{Api, State};
use crate::domain::ids::PlanId;
use crate::queue::{self, SubscriptionInput as Wanted};
use crate::store::Named;
use crate::store::plans::{self, Plan, Row, Subscription};

/// `POST /plans`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanInput {
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub name: String,
    #[schema(minimum = 0, maximum = 1000000)]
    pub price: Option<f64>,
    /// Of each period.
    #[schema(minimum = 0, maximum = 100000000)]
    pub minutes: i64,
    /// Days of a period.
    #[schema(minimum = 1, maximum = 3660)]
    pub duration: i64,
    /// Dials a day on the user's clock; without it any number.
    #[schema(minimum = 1, maximum = 1000000)]
    pub per_day: Option<i64>,
}

/// `PATCH /plans/{id}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanChanges {
    #[schema(min_length = 1, max_length = 255)]
    pub name: Option<String>,
    #[schema(minimum = 0, maximum = 1000000)]
    pub price: Option<f64>,
    #[schema(minimum = 0, maximum = 100000000)]
    pub minutes: Option<i64>,
    #[schema(minimum = 1, maximum = 3660)]
    pub duration: Option<i64>,
    /// Null: any number.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1000000)]
    pub per_day: Option<Option<i64>>,
}

fn checked(
    faults: &mut Faults,
    name: &str,
    price: f64,
    minutes: i64,
    duration: i64,
    per_day: Option<i64>,
) -> (i32, i32, Option<i32>) {
    faults.check_name("name", name);
    if !(0.0..=1_000_000.0).contains(&price) {
        faults.add("price", "must be 0 to 1000000");
    }
    (
        faults.check_range("minutes", minutes, 0..=100_000_000),
        faults.check_range("duration", duration, 1..=3660),
        per_day.map(|given| faults.check_range("perDay", given, 1..=1_000_000)),
    )
}

async fn find(api: &Api, id: &str) -> Result<Row, Error> {
    the_one(plans::find(&api.db.read, &Named::from(id)).await?, "plan")
}

async fn shown(api: &Api, id: Uuid) -> Result<Row, Error> {
    the_one(plans::find(&api.db.work, &Named { id: Some(id), external_id: None }).await?, "plan")
}

/// Creates a plan. Needs an admin key.
#[utoipa::path(post, path = "/plans", tag = "users", params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = PlanInput, responses((status = 201, description = "Created", body = Data<Row>), Problems))]
pub async fn create_plan(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<PlanInput>,
) -> Result<Response<Body>, Error> {
    caller.require_admin()?;
    let body = input.body;
    let mut faults = Faults::default();
    if let Some(external_id) = &body.external_id {
        faults.check_external_id(external_id);
    }
    let price = body.price.unwrap_or_default();
    let (minutes, duration, per_day) =
        checked(&mut faults, &body.name, price, body.minutes, body.duration, body.per_day);
    faults.none()?;
    let api = Arc::clone(&state.0);
    once(&state.0, caller.itself(), key, &input.hash, move |id| async move {
        let plan = Plan { id, external_id: body.external_id, name: body.name, price, minutes, duration, per_day };
        plans::create(&api.db.work, &plan).await?;
        Answer::json(StatusCode::CREATED, &Data::of(shown(&api, id).await?))
    })
    .await
}

/// Plans, newest first.
#[utoipa::path(get, path = "/plans", tag = "users", params(PageQuery),
    responses((status = 200, description = "A page of plans", body = Page<Row>), Problems))]
pub async fn list_plans(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Row>>, Error> {
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = plans::list(&state.0.db.read, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |plan| plan.id)))
}

/// One plan.
#[utoipa::path(get, path = "/plans/{id}", tag = "users", params(("id" = String, Path, description = "Id or external id")),
    responses((status = 200, description = "The plan", body = Data<Row>), Problems))]
pub async fn get_plan(state: State, _: Caller, Id(id): Id) -> Result<axum::Json<Data<Row>>, Error> {
    Ok(axum::Json(Data::of(find(&state.0, &id).await?)))
}

/// Changes a plan for everybody who subscribes to it. Needs an admin key.
#[utoipa::path(patch, path = "/plans/{id}", tag = "users", params(("id" = String, Path, description = "Id or external id")), request_body = PlanChanges,
    responses((status = 200, description = "The plan as it is now", body = Data<Row>), Problems))]
pub async fn update_plan(
    state: State,
    caller: Caller,
    Id(id): Id,
    changes: Json<PlanChanges>,
) -> Result<axum::Json<Data<Row>>, Error> {
    caller.require_admin()?;
    let row = find(&state.0, &id).await?;
    let body = changes.body;
    let mut faults = Faults::default();
    let name = body.name.unwrap_or(row.name);
    let price = body.price.unwrap_or(row.price);
    let (minutes, duration, per_day) = checked(
        &mut faults,
        &name,
        price,
        body.minutes.unwrap_or(row.minutes.into()),
        body.duration.unwrap_or(row.duration.into()),
        body.per_day.unwrap_or(row.per_day.map(Into::into)),
    );
    faults.none()?;
    let plan = Plan { id: row.id, external_id: row.external_id, name, price, minutes, duration, per_day };
    plans::update(&state.0.db.work, &plan).await?;
    state.0.doorbell.ring();
    Ok(axum::Json(Data::of(shown(&state.0, row.id).await?)))
}

/// Deletes a plan nobody subscribes to. Needs an admin key.
#[utoipa::path(delete, path = "/plans/{id}", tag = "users", params(("id" = String, Path, description = "Id or external id")),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_plan(state: State, caller: Caller, Id(id): Id) -> Result<StatusCode, Error> {
    caller.require_admin()?;
    let row = find(&state.0, &id).await?;
    plans::delete(&state.0.db.work, row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SubscriptionStatus {
    Active,
    Paused,
    Canceled,
}

impl SubscriptionStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Paused => "PAUSED",
            Self::Canceled => "CANCELED",
        }
    }
}

/// `PUT /users/{id}/subscription`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionInput {
    /// Id or external id of the plan.
    pub plan_id: String,
    /// The balance; the plan's minutes for a new subscription, otherwise as it was.
    #[schema(minimum = 0, maximum = 100000000)]
    pub minutes_left: Option<i64>,
    pub status: Option<SubscriptionStatus>,
}

/// Makes or changes a user's subscription: from then on every call of the user is held to it. Needs an admin key.
#[utoipa::path(put, path = "/users/{id}/subscription", tag = "users", params(("id" = String, Path, description = "Id or external id")), request_body = SubscriptionInput,
    responses((status = 200, description = "The subscription as it is now", body = Data<Subscription>), Problems))]
pub async fn put_subscription(
    state: State,
    caller: Caller,
    Id(id): Id,
    input: Json<SubscriptionInput>,
) -> Result<axum::Json<Data<Subscription>>, Error> {
    caller.require_admin()?;
    let user = user_in_path(&state.0, caller, &id).await?;
    let mut faults = Faults::default();
    let minutes_left = input.body.minutes_left.map(|given| faults.check_range("minutesLeft", given, 0..=100_000_000));
    faults.none()?;
    let plan = match find(&state.0, &input.body.plan_id).await {
        Ok(plan) => plan,
        Err(error) if error.status() == StatusCode::NOT_FOUND => {
            return Err(Error::invalid_field("planId", "there is no such plan"));
        }
        Err(error) => return Err(error),
    };
    let wanted =
        Wanted { plan_id: PlanId(plan.id), minutes_left, status: input.body.status.map(SubscriptionStatus::as_str) };
    let api = Arc::clone(&state.0);
    state
        .0
        .detached(async move {
            queue::subscribe(&api.db.work, user, &wanted).await?;
            api.doorbell.ring();
            let row = plans::subscription(&api.db.work, user).await?;
            Ok(axum::Json(Data::of(row.ok_or_else(|| Error::not_found("subscription"))?)))
        })
        .await
}

/// A user's subscription, with what is left of it.
#[utoipa::path(get, path = "/users/{id}/subscription", tag = "users", params(("id" = String, Path, description = "Id or external id")),
    responses((status = 200, description = "The subscription", body = Data<Subscription>), Problems))]
pub async fn get_subscription(
    state: State,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<Data<Subscription>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = plans::subscription(&state.0.db.read, user).await?;
    Ok(axum::Json(Data::of(row.ok_or_else(|| Error::not_found("subscription"))?)))
}
