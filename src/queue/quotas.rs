//! Subscriptions as the clock and people move them: periods are refilled, days are turned, and what they held back is woken.
//!
//! What a call takes is counted by the claim (a reservation) and by the trigger `attempts_settle_minutes` (its real length).

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::domain::ids::{PlanId, UserId};
use crate::domain::zone::Zone;
use crate::queue::admit;

const DAY_SECS: i64 = 86_400;

/// Begins the next period of subscriptions whose period is over; returns how many.
///
/// # Errors
/// Postgres is away; until then their calls wait.
pub async fn refill(pool: &PgPool, limit: i64) -> sqlx::Result<u64> {
    if !sqlx::query_file_scalar!("sql/queue/any_period_over.sql").fetch_one(pool).await? {
        return Ok(0);
    }
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    let done = sqlx::query_file!("sql/queue/refill.sql", limit).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}

/// Begins a new day for users on whose clock it has begun; returns how many.
///
/// # Errors
/// Postgres is away; until then calls of those with a limit a day wait.
pub async fn turn_days(pool: &PgPool, limit: i64) -> sqlx::Result<usize> {
    let rows = sqlx::query_file!("sql/queue/days_to_turn.sql", limit).fetch_all(pool).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let turned: Vec<(Uuid, NaiveDate, DateTime<Utc>)> = rows
        .into_iter()
        .filter_map(|row| {
            let zone = row.time_zone.as_deref().and_then(Zone::named).or_else(|| Zone::named("Etc/UTC"))?;
            let (day, ends) = day_of(&zone, row.now)?;
            Some((row.user_id, day, ends))
        })
        .collect();
    let users: Vec<Uuid> = turned.iter().map(|(user, ..)| *user).collect();
    let days: Vec<NaiveDate> = turned.iter().map(|(_, day, _)| *day).collect();
    let ends: Vec<DateTime<Utc>> = turned.iter().map(|(.., ends)| *ends).collect();
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    sqlx::query_file!("sql/queue/turn_days.sql", &users, &days, &ends).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(users.len())
}

/// Wakes users with daily caps when a new day (UTC) has begun.
///
/// # Errors
/// Postgres is away; until then they wait.
pub async fn turn_caps_day(pool: &PgPool) -> sqlx::Result<()> {
    if !sqlx::query_file_scalar!("sql/queue/caps_day_over.sql").fetch_one(pool).await? {
        return Ok(());
    }
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    sqlx::query_file!("sql/queue/turn_caps_day.sql").fetch_all(&mut *transaction).await?;
    transaction.commit().await
}

/// The date on a zone's clock, and when it ends.
fn day_of(zone: &Zone, now: DateTime<Utc>) -> Option<(NaiveDate, DateTime<Utc>)> {
    let now = now.timestamp();
    let local_day = |at: i64| (at + zone.offset_at(at)).div_euclid(DAY_SECS);
    let day = local_day(now);
    // Midnight by today's offset, moved where the offset changes in between.
    let mut ends = (day + 1) * DAY_SECS - zone.offset_at(now);
    ends += zone.offset_at(now) - zone.offset_at(ends);
    while local_day(ends) <= day {
        ends += 900;
    }
    let date = NaiveDate::default().checked_add_signed(TimeDelta::days(day))?;
    Some((date, DateTime::from_timestamp(ends, 0)?))
}

/// A user's subscription as it is to be; none keeps what is, or takes what the plan gives.
#[derive(Clone, Debug)]
pub struct SubscriptionInput {
    pub plan_id: PlanId,
    pub minutes_left: Option<i32>,
    pub status: Option<&'static str>,
}

/// Makes or changes a user's subscription. A change of the plan keeps balance and period, unless a balance is given.
///
/// # Errors
/// Postgres is away, or there is no such plan.
pub async fn subscribe(pool: &PgPool, user: UserId, to: &SubscriptionInput) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    sqlx::query_file!("sql/queue/subscribe.sql", user.0, to.plan_id.0, to.minutes_left, to.status)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    drop(connection);
    turn_days(pool, 100).await?;
    Ok(())
}

/// Makes everything of a user deserve a look: limits or settings have changed.
///
/// # Errors
/// Postgres is away.
pub async fn wake_user(pool: &PgPool, user: UserId) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    sqlx::query_file!("sql/queue/wake_user.sql", user.0).execute(&mut *transaction).await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days end at local midnight, on days of 23 and 25 hours too.
    #[test]
    fn days_end_at_local_midnight() {
        let end = |zone: &str, at: &str| {
            let zone = Zone::named(zone).expect("a zone");
            let (day, ends) = day_of(&zone, at.parse().expect("a time")).expect("a day");
            format!("{day} {}", ends.format("%F %R"))
        };
        assert_eq!(end("America/New_York", "2025-02-25T14:00:00Z"), "2025-02-25 2025-02-26 05:00");
        assert_eq!(end("America/New_York", "2026-11-01T05:30:00Z"), "2026-11-01 2026-11-02 05:00");
        assert_eq!(end("America/New_York", "2026-03-08T06:00:00Z"), "2026-03-08 2026-03-09 04:00");
        assert_eq!(end("Asia/Kolkata", "2026-01-01T20:00:00Z"), "2026-01-02 2026-01-02 18:30");
    }
}
