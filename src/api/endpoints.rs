//! Webhook endpoints of users: who wants to be told what became of calls, and what is on its way.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Ids, Json, Query};
use crate::api::faults::Faults;
use crate::api::owner::user_in_path;
use crate::api::paging::PageQuery;
use crate::api::{Api, State};
use crate::domain::ids::{UserId, new_id};
use crate::notifier::gate;
use crate::provider::signature;
use crate::store::deliveries::{self, Delivery, EVENTS, Endpoint};

/// Endpoints a user may have.
const ENDPOINTS_MAX: usize = 20;
const URL_CHARS_MAX: usize = 2000;

/// `POST /users/{id}/webhook-endpoints`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointInput {
    /// https, and no internal address.
    #[schema(example = "https://example.com/hooks", max_length = 2000)]
    pub url: String,
    /// call.completed, call.failed, call.expired, call.canceled, call.rescheduled, appointment.created, endpoint.disabled
    /// (another of the user's endpoints was disabled: it failed for days, or said it is gone); all unless given.
    pub events: Option<Vec<String>>,
}

/// `PATCH /users/{id}/webhook-endpoints/{endpoint}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointChanges {
    #[schema(example = "https://example.com/hooks", max_length = 2000)]
    pub url: Option<String>,
    pub events: Option<Vec<String>>,
    /// Stops and resumes sending; what happens meanwhile is not told. `false` also ends the pause after failures.
    pub disabled: Option<bool>,
}

/// A new endpoint with its secret, which is shown this once.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NewEndpoint {
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// For the signatures, by Standard Webhooks.
    #[schema(example = "whsec_…")]
    pub secret: String,
}

fn check_url(faults: &mut Faults, api: &Api, url: &str) {
    if url.chars().count() > URL_CHARS_MAX {
        faults.add("url", format!("may have at most {URL_CHARS_MAX} characters"));
    }
    faults.check("url", gate::check(url, api.limits.allow_internal_endpoints));
}

fn checked_events(faults: &mut Faults, events: Vec<String>) -> Vec<String> {
    let mut events: Vec<String> = events;
    events.sort_unstable();
    events.dedup();
    if events.is_empty() || events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
        faults.add("events", format!("must be some of {}", EVENTS.join(", ")));
    }
    events
}

async fn find(api: &Api, user: UserId, id: &str) -> Result<Endpoint, Error> {
    let id: Uuid = id.parse().map_err(|_| Error::not_found("endpoint"))?;
    deliveries::get(&api.db.work, user, id).await?.ok_or_else(|| Error::not_found("endpoint"))
}

/// Registers an endpoint. Events come signed by Standard Webhooks, at least once, in order for each call, and are tried for a day.
///
/// An endpoint that fails is left alone as a whole for longer and longer; after days without a success it is disabled.
#[utoipa::path(post, path = "/users/{id}/webhook-endpoints", tag = "webhooks", params(("id" = String, Path, description = "The user's id or external id")), request_body = EndpointInput,
    responses((status = 201, description = "The endpoint, and its secret this once", body = Data<NewEndpoint>), Problems))]
pub async fn create_endpoint(
    state: State,
    caller: Caller,
    Id(id): Id,
    input: Json<EndpointInput>,
) -> Result<(StatusCode, axum::Json<Data<NewEndpoint>>), Error> {
    let api: &Arc<Api> = &state.0;
    let user = user_in_path(api, caller, &id).await?;
    let mut faults = Faults::default();
    check_url(&mut faults, api, &input.body.url);
    let all = || EVENTS.iter().map(|event| (*event).to_owned()).collect();
    let events = checked_events(&mut faults, input.body.events.unwrap_or_else(all));
    faults.none()?;
    if deliveries::list(&api.db.work, user).await?.len() >= ENDPOINTS_MAX {
        return Err(Error::conflict("too_many_endpoints", format!("a user may have {ENDPOINTS_MAX} endpoints")));
    }
    let (id, secret) = (new_id(), signature::fresh_secret());
    deliveries::create(&api.db.work, id, user, &input.body.url, &secret, &events).await?;
    let endpoint = find(api, user, &id.to_string()).await?;
    Ok((StatusCode::CREATED, axum::Json(Data::of(NewEndpoint { endpoint, secret }))))
}

/// `POST …/webhook-endpoints/{endpoint}/rotate-secret`
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// For so many hours what is sent is signed by the old secret too; 24 unless given, 0: the old one ends at once.
    #[schema(minimum = 0, maximum = 168)]
    pub overlap_hours: Option<i64>,
}

/// Gives an endpoint a new secret. For a while events carry two signatures, so that nothing is refused while you change over.
#[utoipa::path(post, path = "/users/{id}/webhook-endpoints/{endpoint}/rotate-secret", tag = "webhooks",
    params(("id" = String, Path, description = "The user's id or external id"), ("endpoint" = String, Path, description = "The endpoint's id")),
    request_body = Rotation, responses((status = 200, description = "The endpoint, and its new secret this once", body = Data<NewEndpoint>), Problems))]
pub async fn rotate_secret(
    state: State,
    caller: Caller,
    Ids(id, endpoint): Ids,
    rotation: Json<Rotation>,
) -> Result<axum::Json<Data<NewEndpoint>>, Error> {
    let api: &Arc<Api> = &state.0;
    let user = user_in_path(api, caller, &id).await?;
    let row = find(api, user, &endpoint).await?;
    let mut faults = Faults::default();
    let hours = faults.check_range("overlapHours", rotation.body.overlap_hours.unwrap_or(24), 0..=168);
    faults.none()?;
    let secret = signature::fresh_secret();
    deliveries::rotate(&api.db.work, user, row.id, &secret, f64::from(hours) * 3600.0).await?;
    let endpoint = find(api, user, &row.id.to_string()).await?;
    Ok(axum::Json(Data::of(NewEndpoint { endpoint, secret })))
}

/// A user's endpoints, newest first.
#[utoipa::path(get, path = "/users/{id}/webhook-endpoints", tag = "webhooks", params(("id" = String, Path, description = "The user's id or external id")),
    responses((status = 200, description = "The endpoints", body = Data<Vec<Endpoint>>), Problems))]
pub async fn list_endpoints(
    state: State,
    caller: Caller,
    Id(id): Id,
) -> Result<axum::Json<Data<Vec<Endpoint>>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok(axum::Json(Data::of(deliveries::list(&state.0.db.read, user).await?)))
}

/// One endpoint.
#[utoipa::path(get, path = "/users/{id}/webhook-endpoints/{endpoint}", tag = "webhooks",
    params(("id" = String, Path, description = "The user's id or external id"), ("endpoint" = String, Path, description = "The endpoint's id")),
    responses((status = 200, description = "The endpoint", body = Data<Endpoint>), Problems))]
pub async fn get_endpoint(
    state: State,
    caller: Caller,
    Ids(id, endpoint): Ids,
) -> Result<axum::Json<Data<Endpoint>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok(axum::Json(Data::of(find(&state.0, user, &endpoint).await?)))
}

/// Changes an endpoint.
#[utoipa::path(patch, path = "/users/{id}/webhook-endpoints/{endpoint}", tag = "webhooks",
    params(("id" = String, Path, description = "The user's id or external id"), ("endpoint" = String, Path, description = "The endpoint's id")),
    request_body = EndpointChanges, responses((status = 200, description = "The endpoint as it is now", body = Data<Endpoint>), Problems))]
pub async fn update_endpoint(
    state: State,
    caller: Caller,
    Ids(id, endpoint): Ids,
    changes: Json<EndpointChanges>,
) -> Result<axum::Json<Data<Endpoint>>, Error> {
    let api: &Arc<Api> = &state.0;
    let user = user_in_path(api, caller, &id).await?;
    let row = find(api, user, &endpoint).await?;
    let mut faults = Faults::default();
    if let Some(url) = &changes.body.url {
        check_url(&mut faults, api, url);
    }
    let events = changes.body.events.map(|events| checked_events(&mut faults, events));
    faults.none()?;
    let (url, disabled) = (changes.body.url, changes.body.disabled);
    deliveries::update(&api.db.work, user, row.id, url.as_deref(), events.as_deref(), disabled).await?;
    Ok(axum::Json(Data::of(find(api, user, &endpoint).await?)))
}

/// Deletes an endpoint, and what is on its way to it.
#[utoipa::path(delete, path = "/users/{id}/webhook-endpoints/{endpoint}", tag = "webhooks",
    params(("id" = String, Path, description = "The user's id or external id"), ("endpoint" = String, Path, description = "The endpoint's id")),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_endpoint(state: State, caller: Caller, Ids(id, endpoint): Ids) -> Result<StatusCode, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = find(&state.0, user, &endpoint).await?;
    deliveries::delete(&state.0.db.work, user, row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What was sent to an endpoint, newest first.
#[utoipa::path(get, path = "/users/{id}/webhook-endpoints/{endpoint}/deliveries", tag = "webhooks",
    params(("id" = String, Path, description = "The user's id or external id"), ("endpoint" = String, Path, description = "The endpoint's id"), PageQuery),
    responses((status = 200, description = "A page of deliveries", body = Page<Delivery>), Problems))]
pub async fn list_deliveries(
    state: State,
    caller: Caller,
    Ids(id, endpoint): Ids,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Delivery>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = find(&state.0, user, &endpoint).await?;
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = deliveries::of_endpoint(&state.0.db.read, row.id, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |delivery| delivery.id)))
}

/// Sends an ended delivery again, under the same webhook-id.
#[utoipa::path(post, path = "/users/{id}/webhook-endpoints/{endpoint}/deliveries/{delivery}/replay", tag = "webhooks",
    params(("id" = String, Path, description = "The user's id or external id"), ("endpoint" = String, Path, description = "The endpoint's id"), ("delivery" = String, Path, description = "The delivery's id")),
    responses((status = 202, description = "It is sent again"), Problems))]
pub async fn replay_delivery(
    state: State,
    caller: Caller,
    axum::extract::Path((id, endpoint, delivery)): axum::extract::Path<(String, String, String)>,
) -> Result<StatusCode, Error> {
    if id.contains('\0') {
        return Err(Error::not_found("user"));
    }
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = find(&state.0, user, &endpoint).await?;
    let delivery: Uuid = delivery.parse().map_err(|_| Error::not_found("delivery"))?;
    if deliveries::replay(&state.0.db.work, row.id, delivery).await? {
        Ok(StatusCode::ACCEPTED)
    } else {
        Err(Error::conflict("wrong_state", "there is no such delivery, it waits already, or its endpoint is disabled"))
    }
}
