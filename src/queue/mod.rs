//! Every statement that moves a call: into its lane, to an attempt, to its end.
//!
//! One admission lock orders them. Claiming and settling take it alone ([`turn()`]); whatever else feeds or forbids takes it
//! shared ([`feed`]). So a claim never runs beside a half-done feeder, and whoever comes later sees the other's commit: limits,
//! sleeping lanes and parked calls need no cleverness beyond that (tests/it/races.rs takes the lock out and sees it fail).
//! Windows have a lock of their own, taken before it ([`windows`]).
//! The lock is a statement of its own, before the one that reads, inside a function too: in READ COMMITTED a statement sees what was
//! committed when it began. Lock order: windows, admission, then numbers (sorted), then rows by id.
//!
//! **Invariant:** nothing slow happens in here; nobody dials inside a transaction.

mod adopt;
mod campaigns;
mod claim;
mod do_not_call;
mod enqueue;
mod plain_sql;
mod prospects;
mod provider;
mod quotas;
pub mod recruit;
mod rescue;
mod settle;
mod steer;
mod turn;
pub mod windows;

pub use adopt::{Adopted, adopt, newest_dial};
pub use campaigns::{CampaignChanges, NewCampaign, cancel_campaign, create_campaign, sweep_canceled, update_campaign};
pub use claim::{Claim, Claimed, Frequency, Looked, Room, Tended, Unreadable, look_again, tend};
pub use do_not_call::{Removal, Unsuppressed, canonize, change_number, keep_number, suppress, unsuppress};
pub use enqueue::{Enqueuer, NewCall, Verdict, enqueue};
pub use plain_sql::take_in;
pub use prospects::{NewProspect, ProspectChanges, create_prospects, enlist, update_prospect};
pub use provider::{Breaker, InARow, Judged, accepted_again, judge_provider, refused_again};
pub use quotas::{SubscriptionInput, refill, subscribe, turn_caps_day, turn_days, wake_user};
pub use rescue::{
    Inquiry, SlotsUsed, Stray, ask_about_all, delete_strays, doubt_of_the_dead, expire, fold_tallies, inquire,
    match_strays, overdue, record_strays, release_orphans, set_aside_event, slots_used, take_records, unsent,
};
pub use settle::{CallChange, Event, Facts, Known, Promise, Settled, Settlement, facts, promises, resolve};
pub use steer::{Amended, Amendment, Canceled, Retried, amend, cancel, retry};
pub use turn::{Failed, Full, Stage, Work, claim, turn};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};

use crate::domain::call::rank;
use crate::domain::ids::LaneId;

/// Begins a transaction that holds the admission lock alone: for claims.
///
/// # Errors
/// Postgres is away, or the lock was not to be had within `lock_timeout`.
pub async fn admit(connection: &mut PgConnection) -> sqlx::Result<Transaction<'_, Postgres>> {
    connection.begin_with(include_str!("../../sql/queue/admit.sql")).await
}

/// Begins a transaction that holds the admission lock together with other feeders.
///
/// # Errors
/// Postgres is away, or the lock was not to be had within `lock_timeout`.
pub async fn feed(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with(include_str!("../../sql/queue/feed.sql")).await
}

/// A lane that deserves a look, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wake {
    pub lane_id: LaneId,
    /// None: now.
    pub at: Option<DateTime<Utc>>,
    pub rank: i16,
}

/// Wakes lanes for calls that were put into them. Call it in the transaction that put them there.
///
/// # Errors
/// Postgres is away.
pub async fn wake(connection: &mut PgConnection, wakes: &[Wake]) -> sqlx::Result<()> {
    if wakes.is_empty() {
        return Ok(());
    }
    let lanes: Vec<LaneId> = wakes.iter().map(|w| w.lane_id).collect();
    let ats: Vec<Option<DateTime<Utc>>> = wakes.iter().map(|w| w.at).collect();
    let urgents: Vec<bool> = wakes.iter().map(|w| rank::is_urgent(w.rank)).collect();
    sqlx::query_file!("sql/queue/wake.sql", &lanes as _, &ats as _, &urgents).execute(connection).await?;
    Ok(())
}

/// Brings back the best parked call of each lane for each of these numbers that is on no call, and wakes its lane; how many.
///
/// # Errors
/// Postgres is away.
pub async fn unpark(connection: &mut PgConnection, phones: &[String]) -> sqlx::Result<usize> {
    if phones.is_empty() {
        return Ok(0);
    }
    let back = sqlx::query_file_scalar!("sql/queue/unpark.sql", phones).fetch_one(connection).await?;
    Ok(usize::try_from(back).unwrap_or_default())
}
