//! Do-not-call lists, and what a user knows of numbers: a number that comes onto a list ends what waits for it, in one transaction.
//!
//! A number's status `do_not_call` stands on the list too, where the claim looks, marked as such: a change of the status takes only
//! its own entry away, never that of a person who asked; nor does a tenant.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::ids::UserId;
use crate::domain::phone::PhoneNumber;
use crate::queue::feed;

/// Puts numbers onto a user's do-not-call list (the operator's is everybody's) and ends the calls that wait for them; returns how
/// many calls that were.
///
/// # Errors
/// Postgres is away.
pub async fn suppress(pool: &PgPool, user: UserId, numbers: &[PhoneNumber], reason: Option<&str>) -> sqlx::Result<i64> {
    let phones: Vec<String> = numbers.iter().map(|number| number.as_str().to_owned()).collect();
    let mut transaction = feed(pool).await?;
    let ended = suppress_on(&mut transaction, user, &phones, reason, Because::Listed).await?;
    transaction.commit().await?;
    Ok(ended)
}

/// Why a number must not be called; what stands further below weighs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// Its status as a phone number says so: goes with the status.
    Status,
    Listed,
    /// The callee asked for it during a call: stays.
    Asked,
}

/// [`suppress`] in a transaction that holds the admission lock.
pub(super) async fn suppress_on(
    connection: &mut PgConnection,
    user: UserId,
    phones: &[String],
    reason: Option<&str>,
    because: Because,
) -> sqlx::Result<i64> {
    let (by_status, asked) = (because == Because::Status, because == Because::Asked);
    sqlx::query_file_scalar!("sql/queue/suppress.sql", user.0, phones, reason, by_status, asked)
        .fetch_one(connection)
        .await
}

/// Sees to it that numbers which plain SQL put onto lists stand there in the form by which they are compared, too; returns how many were
/// looked at.
///
/// # Errors
/// Postgres is away.
pub async fn canonize(pool: &PgPool, limit: i64) -> sqlx::Result<usize> {
    let rows = sqlx::query_file!("sql/queue/uncanonical.sql", limit).fetch_all(pool).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut transaction = feed(pool).await?;
    for row in &rows {
        let canonical = PhoneNumber::parse(&row.phone).ok().map(|number| number.identity().into_owned());
        if let Some(phone) = canonical.filter(|phone| *phone != row.phone) {
            suppress_on(&mut transaction, UserId(row.user_id), &[phone], Some("written otherwise"), Because::Listed)
                .await?;
        }
    }
    let (phones, users): (Vec<String>, Vec<Uuid>) = rows.into_iter().map(|row| (row.phone, row.user_id)).unzip();
    sqlx::query_file!("sql/queue/seen_canonical.sql", &phones, &users).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(phones.len())
}

/// An admin who takes off what a callee asked for, and why.
#[derive(Clone, Copy, Debug)]
pub struct Removal<'a> {
    pub admin: &'a str,
    pub reason: &'a str,
}

/// What became of a number that was to leave a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsuppressed {
    Done,
    /// It was not on it.
    NotListed,
    /// The callee asked for it: it stays.
    Asked,
}

/// Takes a number off a list, and its status with it. What a callee asked for needs a [`Removal`].
///
/// # Errors
/// Postgres is away.
pub async fn unsuppress(
    pool: &PgPool,
    user: UserId,
    number: &PhoneNumber,
    removal: Option<Removal<'_>>,
) -> sqlx::Result<Unsuppressed> {
    let (admin, reason) = removal.map(|removal| (removal.admin, removal.reason)).unzip();
    let mut transaction = feed(pool).await?;
    let row = sqlx::query_file!("sql/queue/unsuppress.sql", user.0, number.as_str(), admin, reason)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(match (row.done, row.listed) {
        (true, _) => Unsuppressed::Done,
        (false, true) => Unsuppressed::Asked,
        (false, false) => Unsuppressed::NotListed,
    })
}

/// The status whose numbers are never dialed.
const DO_NOT_CALL: &str = "do_not_call";

/// Keeps a new phone number; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away, or the user has this number or external id already.
pub async fn keep_number(
    pool: &PgPool,
    id: Uuid,
    user: UserId,
    number: &PhoneNumber,
    status: &str,
    external_id: Option<&str>,
) -> sqlx::Result<()> {
    let mut transaction = feed(pool).await?;
    sqlx::query_file!("sql/queue/create_number.sql", id, user.0, number.as_str(), status, external_id)
        .execute(&mut *transaction)
        .await?;
    follow_status(&mut transaction, user, number.as_str(), status).await?;
    transaction.commit().await
}

/// Changes a phone number; none keeps a field. False: there is none.
///
/// # Errors
/// Postgres is away, or the user has this number already.
pub async fn change_number(
    pool: &PgPool,
    id: Uuid,
    number: Option<&PhoneNumber>,
    status: Option<&str>,
) -> sqlx::Result<bool> {
    let mut transaction = feed(pool).await?;
    let row = sqlx::query_file!("sql/queue/update_number.sql", id, number.map(PhoneNumber::as_str), status)
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(row) = row else { return Ok(false) };
    if row.phone != row.phone_was {
        follow_status(&mut transaction, UserId(row.user_id), &row.phone_was, "valid").await?;
    }
    follow_status(&mut transaction, UserId(row.user_id), &row.phone, &row.status).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn follow_status(connection: &mut PgConnection, user: UserId, phone: &str, status: &str) -> sqlx::Result<()> {
    if status == DO_NOT_CALL {
        suppress_on(connection, user, &[phone.to_owned()], Some("the phone number's status"), Because::Status).await?;
    } else {
        sqlx::query_file!("sql/queue/unsuppress_status.sql", user.0, phone).execute(connection).await?;
    }
    Ok(())
}
