//! Keys of users: made here, shown once, kept as a hash, revoked at once.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::State;
use crate::api::auth::Caller;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Ids, Json};
use crate::api::faults::Faults;
use crate::api::owner::user_in_path;
use crate::store::keys::{self, Row};

/// `POST /users/{id}/keys`
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyInput {
    /// What it is for.
    #[schema(min_length = 1, max_length = 255)]
    pub name: Option<String>,
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
    Id(id): Id,
    input: Json<KeyInput>,
) -> Result<(StatusCode, axum::Json<Data<NewKey>>), Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let name = input.body.name.unwrap_or_else(|| "key".to_owned());
    let mut faults = Faults::default();
    faults.check_name("name", &name);
    faults.none()?;
    let pool = &state.0.db.work;
    if keys::list(pool, user).await?.len() >= KEYS_MAX {
        return Err(Error::conflict("too_many_keys", format!("a user may have {KEYS_MAX} keys; revoke one first")));
    }
    let key = keys::fresh();
    let id = keys::create(pool, Some(user), &name, &key).await?;
    Ok((StatusCode::CREATED, axum::Json(Data::of(NewKey { id, key }))))
}

/// A user's keys, newest first; not the keys themselves.
#[utoipa::path(get, path = "/users/{id}/keys", tag = "users", params(("id" = String, Path, description = "The user's id or external id")),
    responses((status = 200, description = "The keys", body = Data<Vec<Row>>), Problems))]
pub async fn list_keys(state: State, caller: Caller, Id(id): Id) -> Result<axum::Json<Data<Vec<Row>>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok(axum::Json(Data::of(keys::list(&state.0.db.read, user).await?)))
}

/// Revokes a key at once.
#[utoipa::path(delete, path = "/users/{id}/keys/{key}", tag = "users",
    params(("id" = String, Path, description = "The user's id or external id"), ("key" = String, Path, description = "The key's id")),
    responses((status = 204, description = "Revoked"), Problems))]
pub async fn delete_key(state: State, caller: Caller, Ids(id, key): Ids) -> Result<StatusCode, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let key: Uuid = key.parse().map_err(|_| Error::not_found("key"))?;
    if keys::delete(&state.0.db.work, user, key).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::not_found("key"))
    }
}
