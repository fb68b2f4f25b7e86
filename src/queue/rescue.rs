//! Calls that nobody is looking after: the dead process's dials, the silent provider's calls, what expired, what strayed.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::db::bit_by_bit;
use crate::domain::call::AttemptState;
use crate::domain::ids::{AttemptId, CallId, InstanceId};
use crate::domain::raw_json::RawJson;
use crate::queue::{feed, unpark};

/// Counts of later calls folded or forgotten at once: more than a second's worth, and a fraction of a second's work.
const FOLD_MAX: i64 = 20_000;

/// Marks as doubtful the dials of processes whose lease ran out, and those that take longer than any may; returns them.
///
/// # Errors
/// Postgres is away.
pub async fn doubt_of_the_dead(pool: &PgPool, limit: i64, dialing_secs_max: f64) -> sqlx::Result<Vec<AttemptId>> {
    let rows = sqlx::query_file_scalar!("sql/queue/doubt.sql", limit, dialing_secs_max).fetch_all(pool).await?;
    Ok(rows.into_iter().map(AttemptId).collect())
}

/// Attempts committed in this process's name that it does not know of: the answer to a commit was lost, nothing was sent.
///
/// # Errors
/// Postgres is away.
pub async fn unsent(pool: &PgPool, instance: InstanceId, known: &[AttemptId]) -> sqlx::Result<Vec<AttemptId>> {
    let rows = sqlx::query_file_scalar!("sql/queue/unsent.sql", instance.0, known as _).fetch_all(pool).await?;
    Ok(rows.into_iter().map(AttemptId).collect())
}

/// A question to the provider.
#[derive(Clone, Debug)]
pub struct Inquiry {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    pub state: AttemptState,
    pub provider_call_id: Option<String>,
    pub carrier_call_id: Option<String>,
    pub hangup_cause: Option<String>,
    pub claimed_at: DateTime<Utc>,
    pub hang_up: bool,
}

/// Takes attempts this provider must be asked about; each is handed out once in `again_in_secs`.
///
/// # Errors
/// Postgres is away.
pub async fn inquire(pool: &PgPool, provider: &str, limit: i64, again_in_secs: f64) -> sqlx::Result<Vec<Inquiry>> {
    let rows = sqlx::query_file_as!(InquiryRow, "sql/queue/inquire.sql", limit, again_in_secs, provider);
    Ok(rows.fetch_all(pool).await?.into_iter().map(InquiryRow::into_inquiry).collect())
}

/// Has the provider asked about every open attempt now; returns how many.
///
/// # Errors
/// Postgres is away.
pub async fn ask_about_all(pool: &PgPool) -> sqlx::Result<u64> {
    Ok(sqlx::query_file!("sql/queue/renew_inquiries.sql").execute(pool).await?.rows_affected())
}

/// Takes ended attempts whose record is still to be fetched from this provider; each is handed out ever more rarely, until `give_up_secs` after its end.
///
/// # Errors
/// Postgres is away.
pub async fn take_records(
    pool: &PgPool,
    provider: &str,
    limit: i64,
    again_in_secs: f64,
    give_up_secs: f64,
) -> sqlx::Result<Vec<Inquiry>> {
    let rows =
        sqlx::query_file_as!(InquiryRow, "sql/queue/take_records.sql", limit, again_in_secs, give_up_secs, provider);
    Ok(rows.fetch_all(pool).await?.into_iter().map(InquiryRow::into_inquiry).collect())
}

struct InquiryRow {
    id: Uuid,
    call_id: Uuid,
    state: AttemptState,
    provider_call_id: Option<String>,
    carrier_call_id: Option<String>,
    hangup_cause: Option<String>,
    claimed_at: DateTime<Utc>,
    hang_up: bool,
}

impl InquiryRow {
    fn into_inquiry(self) -> Inquiry {
        Inquiry {
            attempt_id: AttemptId(self.id),
            call_id: CallId(self.call_id),
            state: self.state,
            provider_call_id: self.provider_call_id,
            carrier_call_id: self.carrier_call_id,
            hangup_cause: self.hangup_cause,
            claimed_at: self.claimed_at,
            hang_up: self.hang_up,
        }
    }
}

/// Attempts open for longer than a call may last.
///
/// # Errors
/// Postgres is away.
pub async fn overdue(pool: &PgPool, max_call_secs: f64, limit: i64) -> sqlx::Result<Vec<AttemptId>> {
    let rows = sqlx::query_file_scalar!("sql/queue/overdue.sql", max_call_secs, limit).fetch_all(pool).await?;
    Ok(rows.into_iter().map(AttemptId).collect())
}

/// Ends up to `limit` waiting calls whose time has passed; returns how many numbers that concerned.
///
/// # Errors
/// Postgres is away.
pub async fn expire(pool: &PgPool, limit: i64) -> sqlx::Result<usize> {
    let mut transaction = feed(pool).await?;
    let phones = sqlx::query_file_scalar!("sql/queue/expire.sql", limit).fetch_all(&mut *transaction).await?;
    unpark(&mut transaction, &phones).await?;
    transaction.commit().await?;
    Ok(phones.len())
}

/// Wakes parked calls that nothing else will wake. There are none; if this ever returns more than 0, something is broken.
///
/// # Errors
/// Postgres is away.
pub async fn release_orphans(pool: &PgPool, limit: i64) -> sqlx::Result<usize> {
    let mut transaction = feed(pool).await?;
    let phones =
        sqlx::query_file_scalar!("sql/queue/next_orphan_numbers.sql", limit).fetch_all(&mut *transaction).await?;
    let released = unpark(&mut transaction, &phones).await?;
    transaction.commit().await?;
    Ok(released)
}

/// An event about a call not known yet.
#[derive(Clone, Debug)]
pub struct Stray {
    pub id: Uuid,
    pub attempt_id: Option<AttemptId>,
    pub provider_call_id: Option<String>,
    pub key: String,
    pub word: RawJson,
}

/// Keeps strays; a second delivery adds nothing.
///
/// # Errors
/// Postgres is away.
pub async fn record_strays(connection: &mut PgConnection, strays: &[Stray]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = strays.iter().map(|s| s.id).collect();
    let attempts: Vec<Option<AttemptId>> = strays.iter().map(|s| s.attempt_id).collect();
    let provider_ids: Vec<Option<String>> = strays.iter().map(|s| s.provider_call_id.clone()).collect();
    let keys: Vec<String> = strays.iter().map(|s| s.key.clone()).collect();
    let words: Vec<RawJson> = strays.iter().map(|s| s.word.clone()).collect();
    sqlx::query_file!("sql/queue/record_strays.sql", &ids, &attempts as _, &provider_ids as _, &keys, &words as _)
        .execute(connection)
        .await?;
    Ok(())
}

/// Strays whose call is known by now.
///
/// # Errors
/// Postgres is away.
pub async fn match_strays(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Stray>> {
    let rows = sqlx::query_file!("sql/queue/match_strays.sql", limit).fetch_all(pool).await?;
    let strays = rows.into_iter().map(|row| Stray {
        id: row.id,
        attempt_id: Some(AttemptId(row.attempt_id)),
        provider_call_id: None,
        key: row.key,
        word: row.word,
    });
    Ok(strays.collect())
}

/// Sets aside something said about an attempt that cannot be stored; an open attempt is asked about.
///
/// # Errors
/// Postgres is away; nothing was set aside.
pub async fn set_aside_event(
    pool: &PgPool,
    attempt: Option<AttemptId>,
    provider_call_id: Option<&str>,
    detail: &str,
    body: &str,
) -> sqlx::Result<()> {
    let attempt = attempt.map(|attempt| attempt.0);
    sqlx::query_file!("sql/queue/set_aside_event.sql", attempt, provider_call_id, detail, body).execute(pool).await?;
    Ok(())
}

/// Forgets strays that were applied.
///
/// # Errors
/// Postgres is away.
pub async fn delete_strays(pool: &PgPool, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query_file!("sql/queue/delete_strays.sql", ids).execute(pool).await?;
    Ok(())
}

/// Folds the counts, and forgets those whose time is past.
///
/// # Errors
/// Postgres is away.
pub async fn fold_tallies(pool: &PgPool) -> sqlx::Result<()> {
    bit_by_bit(FOLD_MAX, |limit| async move {
        Ok(sqlx::query_file_scalar!("sql/queue/fold_tallies.sql", limit).fetch_one(pool).await?.unsigned_abs())
    })
    .await?;
    bit_by_bit(FOLD_MAX, |limit| async move {
        Ok(sqlx::query_file_scalar!("sql/queue/fold_later.sql", limit).fetch_one(pool).await?.unsigned_abs())
    })
    .await?;
    sqlx::query_file!("sql/queue/prune_later.sql", FOLD_MAX).execute(pool).await?;
    Ok(())
}

/// What is in use.
#[derive(Clone, Copy, Debug)]
pub struct SlotsUsed {
    pub live: i64,
    /// Of these, in doubt.
    pub unknown: i64,
    /// The provider's breaker is open or half open.
    pub breaker_open: bool,
    /// The learned limit of the provider, where there is one now.
    pub provider_ceiling: Option<i32>,
}

/// The slots in use, and how the provider stands.
///
/// # Errors
/// Postgres is away.
pub async fn slots_used(pool: &PgPool) -> sqlx::Result<SlotsUsed> {
    sqlx::query_file_as!(SlotsUsed, "sql/queue/slots_used.sql").fetch_one(pool).await
}
