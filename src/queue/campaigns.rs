//! What is done to campaigns: it acts on their lanes at once, under the admission lock.

use sqlx::{PgConnection, PgPool};

use crate::domain::ids::{CampaignId, ScheduleId, UserId};
use crate::queue::windows::{self, Scope};
use crate::queue::{admit, feed};

/// A campaign as it is created.
#[derive(Clone, Debug)]
pub struct NewCampaign {
    pub id: CampaignId,
    pub user_id: UserId,
    pub schedule_id: Option<ScheduleId>,
    pub name: String,
    pub script_id: String,
    pub max_concurrent_calls: i32,
    pub max_retries: i32,
    pub retry_delay_secs: i32,
    /// `schedule` or `callee`.
    pub hours_in: &'static str,
    /// `user` or `hold`; none: as the provider wants it.
    pub zone_policy: Option<&'static str>,
    pub paused: bool,
    pub external_id: Option<String>,
}

/// Creates a campaign; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away, or the user has another campaign with this external id.
pub async fn create_campaign(pool: &PgPool, new: &NewCampaign) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/queue/create_campaign.sql",
        new.id.0,
        new.user_id.0,
        new.schedule_id.map(|id| id.0),
        new.name,
        new.script_id,
        new.max_concurrent_calls,
        new.max_retries,
        new.retry_delay_secs,
        new.hours_in,
        new.zone_policy,
        new.paused,
        new.external_id,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Fields to change; none keeps what is.
#[derive(Clone, Debug, Default)]
pub struct CampaignChanges {
    pub name: Option<String>,
    pub script_id: Option<String>,
    pub max_concurrent_calls: Option<i32>,
    pub max_retries: Option<i32>,
    pub retry_delay_secs: Option<i32>,
    pub hours_in: Option<&'static str>,
    /// Some(None): no schedule any more.
    pub schedule_id: Option<Option<ScheduleId>>,
    /// Some(None): as the provider wants it.
    pub zone_policy: Option<Option<&'static str>>,
    pub paused: Option<bool>,
}

impl CampaignChanges {
    fn concerns_windows(&self) -> bool {
        self.hours_in.is_some() || self.schedule_id.is_some() || self.zone_policy.is_some()
    }
}

/// Changes a campaign while it runs; its waiting calls follow without being touched. False: there is none.
///
/// # Errors
/// Postgres is away.
pub async fn update_campaign(pool: &PgPool, id: CampaignId, to: &CampaignChanges) -> sqlx::Result<bool> {
    if to.concerns_windows() {
        // The windows' lock first: see the lock order in the module above.
        let mut change = windows::change_and_admit(pool).await?;
        let found = write(&mut change, id, to).await?;
        windows::commit(pool, change, Scope::Campaign(id)).await?;
        return Ok(found);
    }
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    let found = write(&mut transaction, id, to).await?;
    transaction.commit().await?;
    Ok(found)
}

async fn write(connection: &mut PgConnection, id: CampaignId, to: &CampaignChanges) -> sqlx::Result<bool> {
    let found = sqlx::query_file_scalar!(
        "sql/queue/update_campaign.sql",
        id.0,
        to.name,
        to.script_id,
        to.max_concurrent_calls,
        to.max_retries,
        to.retry_delay_secs,
        to.hours_in,
        to.schedule_id.is_some(),
        to.schedule_id.flatten().map(|id| id.0),
        to.zone_policy.is_some(),
        to.zone_policy.flatten(),
        to.paused,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Cancels a campaign for good, and hides it when it `deletes`; its waiting calls are ended by [`sweep_canceled`].
///
/// # Errors
/// Postgres is away.
pub async fn cancel_campaign(pool: &PgPool, id: CampaignId, deletes: bool) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    sqlx::query_file!("sql/queue/cancel_campaign.sql", id.0, deletes).fetch_optional(&mut *transaction).await?;
    transaction.commit().await
}

/// Ends up to `limit` waiting calls of canceled campaigns, or of one of them; returns how many.
///
/// # Errors
/// Postgres is away.
pub async fn sweep_canceled(pool: &PgPool, of: Option<CampaignId>, limit: i64) -> sqlx::Result<i64> {
    let mut transaction = feed(pool).await?;
    let ended = sqlx::query_file_scalar!("sql/queue/sweep_canceled.sql", limit, of.map(|id| id.0))
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(ended)
}
