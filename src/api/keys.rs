//! Keys of users and of admins: made here, shown once, kept as a hash, good until a time or for ever, revoked at once.

use axum::http::StatusCode;
use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Ids, Json};
use crate::api::faults::Faults;
use crate::api::owner::user_in_path;
use crate::api::scopes::{Grant, Scope};
use crate::api::{Api, State};
use crate::domain::ids::UserId;
use crate::store::keys::{self, Owner, Row};

/// `POST /users/{id}/keys`, `POST /keys`
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyInput {
    /// What it is for.
    #[schema(min_length = 1, max_length = 255)]
    pub name: Option<String>,
    /// It opens nothing from then on; none: it never expires, or with the key that makes it.
    pub expires_at: Option<DateTime<Utc>>,
    /// What it may do, no more than the key that makes it: read, write, dial and admin. Of a user's key, unless given: all but admin.
    #[schema(example = json!(["read"]))]
    pub scopes: Option<Vec<Scope>>,
}

/// A new key: this is the only time it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NewKey {
    pub id: Uuid,
    pub key: String,
}

/// Keys a user may have.
const KEYS_MAX: usize = 100;

/// Makes a key for a user. To rotate: make a new one, use it, revoke the old one.
#[utoipa::path(post, path = "/users/{id}/keys", tag = "users", params(("id" = String, Path, description = "The user's id or external id")), request_body = KeyInput,
    responses((status = 201, description = "The key, shown this once", body = Data<NewKey>), Problems))]
pub async fn create_key(
    state: State,
    caller: Caller,
    grant: Grant,
    Id(id): Id,
    input: Json<KeyInput>,
) -> Result<(StatusCode, axum::Json<Data<NewKey>>), Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    create(&state.0, Some(user), &grant, input.body).await
}

/// Makes an admin key. To rotate: make a new one, use it, revoke the old one.
#[utoipa::path(post, path = "/keys", tag = "operations", request_body = KeyInput,
    responses((status = 201, description = "The key, shown this once", body = Data<NewKey>), Problems))]
pub async fn create_admin_key(
    state: State,
    caller: Caller,
    grant: Grant,
    input: Json<KeyInput>,
) -> Result<(StatusCode, axum::Json<Data<NewKey>>), Error> {
    caller.require_admin()?;
    create(&state.0, None, &grant, input.body).await
}

async fn create(
    api: &Api,
    user: Option<UserId>,
    grant: &Grant,
    input: KeyInput,
) -> Result<(StatusCode, axum::Json<Data<NewKey>>), Error> {
    let name = input.name.unwrap_or_else(|| "key".to_owned());
    let mut faults = Faults::default();
    faults.check_name("name", &name);
    faults.none()?;
    if let Some(at) = input.expires_at
        && !(Utc::now() < at && at.year() <= 9999)
    {
        return Err(Error::invalid_field("expiresAt", "must be a time to come"));
    }
    let expires_at = input.expires_at.or(grant.expires_at);
    if grant.expires_at.is_some_and(|end| expires_at.is_none_or(|at| at > end)) {
        return Err(Error::invalid_field("expiresAt", "must not be after that of the key that makes it"));
    }
    let usual = || match user {
        Some(_) => Scope::OF_USERS.to_vec(),
        None => Scope::ALL.to_vec(),
    };
    let scopes = input.scopes.unwrap_or_else(usual);
    if scopes.is_empty() || scopes.iter().any(|scope| !grant.scopes.contains(scope)) {
        return Err(Error::invalid_field("scopes", "must be of those of the key that makes it, and at least one"));
    }
    let scopes: Vec<&str> = scopes.into_iter().map(Scope::as_str).collect();
    let pool = &api.db.work;
    if keys::list(pool, user).await?.len() >= KEYS_MAX {
        return Err(Error::conflict("too_many_keys", format!("there may be {KEYS_MAX} keys; revoke one first")));
    }
    let key = keys::fresh();
    let id = keys::create(pool, user, &name, &key, &scopes, expires_at).await?;
    api.who.known.add(&key, Owner(user));
    Ok((StatusCode::CREATED, axum::Json(Data::of(NewKey { id, key }))))
}

/// A user's keys, newest first; not the keys themselves.
#[utoipa::path(get, path = "/users/{id}/keys", tag = "users", params(("id" = String, Path, description = "The user's id or external id")),
    responses((status = 200, description = "The keys", body = Data<Vec<Row>>), Problems))]
pub async fn list_keys(state: State, caller: Caller, Id(id): Id) -> Result<axum::Json<Data<Vec<Row>>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok(axum::Json(Data::of(keys::list(&state.0.db.read, Some(user)).await?)))
}

/// The admins' keys, newest first; not the keys themselves. That of the settings is not among them.
#[utoipa::path(get, path = "/keys", tag = "operations",
    responses((status = 200, description = "The keys", body = Data<Vec<Row>>), Problems))]
pub async fn list_admin_keys(state: State, caller: Caller) -> Result<axum::Json<Data<Vec<Row>>>, Error> {
    caller.require_admin()?;
    Ok(axum::Json(Data::of(keys::list(&state.0.db.read, None).await?)))
}

/// Revokes a key at once.
#[utoipa::path(delete, path = "/users/{id}/keys/{key}", tag = "users",
    params(("id" = String, Path, description = "The user's id or external id"), ("key" = String, Path, description = "The key's id")),
    responses((status = 204, description = "Revoked"), Problems))]
pub async fn delete_key(state: State, caller: Caller, Ids(id, key): Ids) -> Result<StatusCode, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    delete(&state.0, Some(user), &key).await
}

/// Revokes an admin key at once, be it the one that asks.
#[utoipa::path(delete, path = "/keys/{key}", tag = "operations", params(("key" = String, Path, description = "The key's id")),
    responses((status = 204, description = "Revoked"), Problems))]
pub async fn delete_admin_key(state: State, caller: Caller, Id(key): Id) -> Result<StatusCode, Error> {
    caller.require_admin()?;
    delete(&state.0, None, &key).await
}

async fn delete(api: &Api, user: Option<UserId>, key: &str) -> Result<StatusCode, Error> {
    let key: Uuid = key.parse().map_err(|_| Error::not_found("key"))?;
    if keys::delete(&api.db.work, user, key).await? { Ok(StatusCode::NO_CONTENT) } else { Err(Error::not_found("key")) }
}
