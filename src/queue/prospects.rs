//! Prospects, written. Their triggers (migration 0006) keep promises: whatever is written here enqueues, moves or ends the call that
//! follows from it, in the same statement; so the admission lock comes first, and alone: others go from calls to prospects.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::domain::ids::{ProspectId, UserId};
use crate::domain::phone::PhoneNumber;
use crate::domain::prospect::Wish;
use crate::domain::raw_json::RawJson;
use crate::domain::word::is_computable;
use crate::queue::recruit::{Reason, Recruit, checked};
use crate::queue::windows;
use crate::queue::{admit, unpark};

/// A prospect as it is created.
#[derive(Clone, Debug)]
pub struct NewProspect {
    pub id: ProspectId,
    pub external_id: Option<String>,
    pub name: Option<String>,
    pub phone: PhoneNumber,
    pub time_zone: Option<String>,
    /// INITIAL, RESCHEDULED, BOOKED, NOT_INTERESTED, DO_NOT_CALL or FAILED.
    pub status: &'static str,
    pub rescheduled_for: Option<DateTime<Utc>>,
    pub variables: RawJson,
}

/// Creates prospects of a user; those that are new, or were made by an earlier try of the same request.
///
/// # Errors
/// Postgres is away; nothing was created then, or the answer was lost (repeat with the same ids).
pub async fn create_prospects(pool: &PgPool, user: UserId, new: &[NewProspect]) -> sqlx::Result<Vec<ProspectId>> {
    fn column<T>(new: &[NewProspect], field: impl Fn(&NewProspect) -> T) -> Vec<T> {
        new.iter().map(field).collect()
    }
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    let rows = sqlx::query_file_scalar!(
        "sql/queue/create_prospects.sql",
        user.0,
        &column(new, |p| p.id.0),
        &column(new, |p| p.external_id.clone()) as _,
        &column(new, |p| p.name.clone()) as _,
        &column(new, |p| p.phone.as_str().to_owned()),
        &column(new, |p| p.time_zone.clone()) as _,
        &column(new, |p| p.status.to_owned()),
        &column(new, |p| p.rescheduled_for) as _,
        &column(new, |p| p.variables.clone()) as _,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    drop(connection);
    // Promises that are new wait in the unsorted lane; they are placed at once, and by the next tick at the latest.
    if new.iter().any(|prospect| prospect.rescheduled_for.is_some()) {
        windows::sort(pool, i64::try_from(new.len()).unwrap_or(i64::MAX)).await?;
    }
    Ok(rows.into_iter().flatten().map(ProspectId).collect())
}

/// Makes prospects of rows of a list, verdicts in their order; `id_of` names the nth, so that rows which are repeated after a crash
/// are told from those that were there before.
///
/// # Errors
/// Postgres is away; rows may have become prospects by then, and a repeat with the same ids gives the same verdicts.
pub async fn enlist(
    pool: &PgPool,
    user: UserId,
    rows: Vec<Recruit>,
    id_of: impl Fn(usize) -> ProspectId,
) -> sqlx::Result<Vec<Result<ProspectId, Reason>>> {
    let mut verdicts = Vec::with_capacity(rows.len());
    let mut new = Vec::with_capacity(rows.len());
    let possible = sqlx::query_file_scalar!("sql/queue/refuses_impossible.sql").fetch_one(pool).await?;
    for (nth, mut row) in rows.into_iter().enumerate() {
        let number = checked(&mut row).and_then(|phone| match phone.impossible() {
            Some(_) if possible => Err(Reason::InvalidNumber),
            _ => Ok(phone),
        });
        let checked = number.and_then(|phone| Ok((phone, standing(&row)?)));
        verdicts.push(checked.as_ref().map(|_| id_of(nth)).map_err(|reason| *reason));
        if let Ok((phone, (status, rescheduled_for))) = checked {
            new.push(NewProspect {
                id: id_of(nth),
                external_id: row.external_id,
                name: row.name,
                phone,
                time_zone: row.time_zone,
                status,
                rescheduled_for,
                variables: RawJson::of(&row.variables),
            });
        }
    }
    let created: HashSet<ProspectId> = create_prospects(pool, user, &new).await?.into_iter().collect();
    let told = verdicts.into_iter().map(|verdict| match verdict {
        Ok(id) if !created.contains(&id) => Err(Reason::DuplicateProspect),
        verdict => verdict,
    });
    Ok(told.collect())
}

/// How a row of a list says the person stands, and the time promised.
fn standing(row: &Recruit) -> Result<(&'static str, Option<DateTime<Utc>>), Reason> {
    let promised = row.rescheduled_for.as_deref().map(str::trim).filter(|at| !at.is_empty());
    let promised = promised.map(str::parse::<DateTime<Utc>>).transpose().map_err(|_| Reason::InvalidStatus)?;
    let said = row.status_word().map(|word| Wish::of_str(&word).ok_or(Reason::InvalidStatus)).transpose()?;
    let wish = Wish::with(said, promised.is_some()).filter(|_| promised.as_ref().is_none_or(is_computable));
    Ok((wish.ok_or(Reason::InvalidStatus)?.as_str(), promised))
}

/// Fields to change; none keeps what is, `Some(None)` empties.
#[derive(Clone, Debug, Default)]
pub struct ProspectChanges {
    pub name: Option<Option<String>>,
    pub phone: Option<PhoneNumber>,
    pub time_zone: Option<Option<String>>,
    pub status: Option<&'static str>,
    pub rescheduled_for: Option<Option<DateTime<Utc>>>,
    pub variables: Option<RawJson>,
    /// Hides it for good and ends its call.
    pub deleted: bool,
}

/// Changes a prospect; its waiting call follows. False: there is none.
///
/// # Errors
/// Postgres is away, or the user has another prospect with this number.
pub async fn update_prospect(pool: &PgPool, id: Uuid, to: &ProspectChanges) -> sqlx::Result<bool> {
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    let row = sqlx::query_file!(
        "sql/queue/update_prospect.sql",
        id,
        to.name.is_some(),
        to.name.clone().flatten(),
        to.phone.as_ref().map(PhoneNumber::as_str),
        to.time_zone.is_some(),
        to.time_zone.clone().flatten(),
        to.status,
        to.rescheduled_for.is_some(),
        to.rescheduled_for.flatten(),
        to.variables.clone() as _,
        to.deleted,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else { return Ok(false) };
    // Its call may have had others parked behind it.
    unpark(&mut transaction, &[row.phone]).await?;
    transaction.commit().await?;
    drop(connection);
    windows::sort(pool, 10).await?;
    Ok(true)
}
