//! Whose things are meant: the caller's own, or those of the user an admin names.

use crate::api::Api;
use crate::api::auth::Caller;
use crate::api::error::Error;
use crate::db::fault::within;
use crate::domain::ids::UserId;
use crate::store::users;

fn unknown() -> Error {
    Error::invalid_field("userId", "there is no such user")
}

async fn user_named(api: &Api, named: &str) -> Result<Option<UserId>, Error> {
    Ok(within(api.limits.patience, users::find(&api.db.gate, named)).await?)
}

/// The user something new is for: the caller itself, or whom an admin names.
///
/// # Errors
/// 400 when there is no such user, or it is another's.
pub async fn owner_of(api: &Api, caller: Caller, named: Option<&str>) -> Result<UserId, Error> {
    let Some(named) = named else {
        return Ok(caller.itself());
    };
    match (user_named(api, named).await?, caller) {
        (Some(user), Caller::Admin) => Ok(user),
        (Some(user), Caller::User(own)) if user == own => Ok(user),
        _ => Err(unknown()),
    }
}

/// Whose rows are looked at: the caller's own, those of whom an admin names, or everybody's.
///
/// # Errors
/// 400 when there is no such user, or it is another's.
pub async fn scope_of(api: &Api, caller: Caller, named: Option<&str>) -> Result<Option<UserId>, Error> {
    match named {
        None => Ok(caller.scope()),
        Some(_) => Ok(Some(owner_of(api, caller, named).await?)),
    }
}

/// Whose row a path means by an external id: a user's own, or that of whom an admin names beside it.
///
/// # Errors
/// 400 when there is no such user.
pub async fn scope_in_path(api: &Api, caller: Caller, whose: Option<&str>) -> Result<Option<UserId>, Error> {
    match caller {
        Caller::User(own) => Ok(Some(own)),
        Caller::Admin => scope_of(api, caller, whose).await,
    }
}

/// The user in a path: an admin's any, a user's own.
///
/// # Errors
/// 404 when there is none, or it is another's.
pub async fn user_in_path(api: &Api, caller: Caller, named: &str) -> Result<UserId, Error> {
    let user = user_named(api, named).await?.ok_or_else(|| Error::not_found("user"))?;
    match caller {
        Caller::User(own) if own != user => Err(Error::not_found("user")),
        _ => Ok(user),
    }
}

/// The one row a path means.
///
/// # Errors
/// 404 when there is none, 409 when an external id fits rows of several users.
pub fn the_one<T>(rows: Vec<T>, what: &str) -> Result<T, Error> {
    let mut rows = rows.into_iter();
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row),
        (None, _) => Err(Error::not_found(what)),
        (Some(_), Some(_)) => Err(Error::conflict(
            "ambiguous_external_id",
            format!("several users have a {what} with this external id: add ?userId="),
        )),
    }
}
