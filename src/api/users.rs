//! Users: tenants. An admin makes them; a user's key sees its own.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::State;
use crate::api::auth::Caller;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json, Query};
use crate::api::faults::{Faults, given};
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::user_in_path;
use crate::api::paging::PageQuery;
use crate::domain::ids::UserId;
use crate::domain::place::{Destination, is_country};
use crate::queue;
use crate::store::rates;
use crate::store::users::{self, Changes, Row};

/// `POST /users`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserInput {
    #[schema(min_length = 1, max_length = 255)]
    pub name: String,
    pub email: Option<String>,
    /// Your own id for it; must not look like a UUID.
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
}

/// `PATCH /users/{id}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserChanges {
    #[schema(min_length = 1, max_length = 255)]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub email: Option<Option<String>>,
    /// Countries the user may have called: ISO 3166 codes, or `*` for any; null: those of the installation (`rules.countries`).
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["US", "CA"]))]
    pub allowed_countries: Option<Option<Vec<String>>>,
    /// Kinds of numbers the user may have called beside ordinary ones: PREMIUM, SHARED_COST, SATELLITE, UNASSIGNED.
    #[schema(example = json!(["SHARED_COST"]))]
    pub allowed_destinations: Option<Vec<String>>,
    /// Agents kept at the provider that the user's scripts may name; `*` for any.
    #[schema(max_items = 1000, example = json!(["7f0c3c90-0d44-4b50-8888-8dd25736052a"]))]
    pub allowed_agents: Option<Vec<String>>,
    /// Tools kept at the provider that the user's scripts may name, by name or id; `*` for any.
    #[schema(max_items = 1000, example = json!(["hangUp", "leaveVoicemail"]))]
    pub allowed_tools: Option<Vec<String>>,
    /// The most `maxConcurrentCalls` the user may give itself; null: only the global limit counts.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100000)]
    pub max_concurrent_calls_allowed: Option<Option<i64>>,
    /// Minutes the user's calls may last in a day (UTC); null: any.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 10000000)]
    pub daily_minutes_max: Option<Option<i64>>,
    /// What the user's calls may cost in a day (UTC), by the rates (`PUT /rates`); null: anything.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1000000000)]
    pub daily_cost_max: Option<Option<f64>>,
}

const COUNTRIES_MAX: usize = 300;

fn check_destinations(faults: &mut Faults, changes: &UserChanges) {
    let countries = changes.allowed_countries.iter().flatten();
    if countries.clone().any(|countries| countries.len() > COUNTRIES_MAX)
        || countries.flatten().any(|code| code != "*" && !is_country(code))
    {
        faults.add("allowedCountries", "must be ISO 3166 codes of two capital letters, such as US, or *");
    }
    let is_known = |word: &String| Destination::ADMISSIBLE.iter().any(|kind| kind.as_str() == word);
    if changes.allowed_destinations.iter().flatten().any(|word| !is_known(word)) {
        let known: Vec<&str> = Destination::ADMISSIBLE.iter().map(|kind| kind.as_str()).collect();
        faults.add("allowedDestinations", format!("must be of {}", known.join(", ")));
    }
}

const NAMES_MAX: usize = 1000;

fn check_names(faults: &mut Faults, path: &str, names: Option<&Vec<String>>) {
    let is_name = |name: &String| !name.trim().is_empty() && name.chars().count() <= 255 && !name.contains('\0');
    if names.is_some_and(|names| names.len() > NAMES_MAX || !names.iter().all(is_name)) {
        faults.add(path, format!("must be at most {NAMES_MAX} names of 1 to 255 characters, or *"));
    }
}

fn check_email(faults: &mut Faults, email: &str) {
    let parts =
        email.split_once('@').filter(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
    if parts.is_none() || email.chars().count() > 254 || email.chars().any(char::is_whitespace) {
        faults.add("email", "is not an address, such as jo@example.com");
    }
}

/// Creates a user.
#[utoipa::path(post, path = "/users", tag = "users", params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = UserInput, responses((status = 201, description = "Created", body = Data<Row>), Problems))]
pub async fn create_user(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<UserInput>,
) -> Result<Response<Body>, Error> {
    caller.require_admin()?;
    let mut faults = Faults::default();
    faults.check_name("name", &input.body.name);
    if let Some(email) = &input.body.email {
        check_email(&mut faults, email);
    }
    if let Some(external_id) = &input.body.external_id {
        faults.check_external_id(external_id);
    }
    faults.none()?;
    let api = Arc::clone(&state.0);
    once(&state.0, caller.itself(), key, &input.hash, move |seed| async move {
        let UserInput { name, email, external_id } = input.body;
        let id = UserId(seed);
        users::create(&api.db.work, id, &name, email.as_deref(), external_id.as_deref()).await?;
        let user = users::get(&api.db.work, id).await?.ok_or_else(|| Error::not_found("user"))?;
        Answer::json(StatusCode::CREATED, &Data::of(user))
    })
    .await
}

/// Users, newest first.
#[utoipa::path(get, path = "/users", tag = "users", params(PageQuery),
    responses((status = 200, description = "A page of users", body = Page<Row>), Problems))]
pub async fn list_users(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Row>>, Error> {
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = users::list(&state.0.db.read, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |user| user.id)))
}

/// One user.
#[utoipa::path(get, path = "/users/{id}", tag = "users", params(("id" = String, Path, description = "Id or external id")),
    responses((status = 200, description = "The user", body = Data<Row>), Problems))]
pub async fn get_user(state: State, caller: Caller, Id(id): Id) -> Result<axum::Json<Data<Row>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let user = users::get(&state.0.db.read, user).await?.ok_or_else(|| Error::not_found("user"))?;
    Ok(axum::Json(Data::of(user)))
}

/// Changes a user.
#[utoipa::path(patch, path = "/users/{id}", tag = "users", params(("id" = String, Path, description = "Id or external id")), request_body = UserChanges,
    responses((status = 200, description = "The user as it is now", body = Data<Row>), Problems))]
pub async fn update_user(
    state: State,
    caller: Caller,
    Id(id): Id,
    changes: Json<UserChanges>,
) -> Result<axum::Json<Data<Row>>, Error> {
    caller.require_admin()?;
    let user = user_in_path(&state.0, caller, &id).await?;
    let mut faults = Faults::default();
    if let Some(name) = &changes.body.name {
        faults.check_name("name", name);
    }
    if let Some(Some(email)) = &changes.body.email {
        check_email(&mut faults, email);
    }
    check_destinations(&mut faults, &changes.body);
    check_names(&mut faults, "allowedAgents", changes.body.allowed_agents.as_ref());
    check_names(&mut faults, "allowedTools", changes.body.allowed_tools.as_ref());
    let to = changes.body;
    let max_concurrent_calls_allowed = to
        .max_concurrent_calls_allowed
        .map(|most| most.map(|most| faults.check_range("maxConcurrentCallsAllowed", most, 1..=100_000)));
    let daily_minutes_max =
        to.daily_minutes_max.map(|most| most.map(|most| faults.check_range("dailyMinutesMax", most, 0..=10_000_000)));
    if to.daily_cost_max.flatten().is_some_and(|most| !(0.0..=1e9).contains(&most)) {
        faults.add("dailyCostMax", "must be 0 to 1000000000");
    }
    faults.none()?;
    if to.daily_cost_max.flatten().is_some() && !rates::needed(&state.0.db.read).await?.default {
        return Err(Error::conflict(
            "rates_needed",
            "load rates first: PUT /rates, one of them with an empty prefix, for any number",
        ));
    }
    let changes = Changes {
        name: to.name,
        email: to.email,
        allowed_countries: to.allowed_countries,
        allowed_destinations: to.allowed_destinations,
        allowed_agents: to.allowed_agents,
        allowed_tools: to.allowed_tools,
        max_concurrent_calls_allowed,
        daily_minutes_max,
        daily_cost_max: to.daily_cost_max,
    };
    let capped = changes.daily_minutes_max.is_some() || changes.daily_cost_max.is_some();
    users::update(&state.0.db.work, user, &changes).await?;
    if capped {
        // What an earlier cap had put to sleep.
        queue::wake_user(&state.0.db.work, user).await?;
    }
    state.0.doorbell.ring();
    let user = users::get(&state.0.db.work, user).await?.ok_or_else(|| Error::not_found("user"))?;
    Ok(axum::Json(Data::of(user)))
}

/// Deletes a user that owns no calls.
#[utoipa::path(delete, path = "/users/{id}", tag = "users", params(("id" = String, Path, description = "Id or external id")),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_user(state: State, caller: Caller, Id(id): Id) -> Result<StatusCode, Error> {
    caller.require_admin()?;
    let user = user_in_path(&state.0, caller, &id).await?;
    if users::delete(&state.0.db.work, user).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::conflict("in_use", "the user has calls, or is the built-in operator"))
    }
}
