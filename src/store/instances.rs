//! The processes of this installation and their leases.

use sqlx::PgPool;

use crate::domain::ids::InstanceId;
use crate::telemetry::vitals::{Vital, Vitals};

/// Registers or renews this process, and tells what it last did. Gives why dialing is held, if it is.
///
/// # Errors
/// Postgres is away.
pub async fn renew(
    pool: &PgPool,
    instance: InstanceId,
    lease_secs: f64,
    role: &str,
    host: &str,
    vitals: &Vitals,
) -> sqlx::Result<Option<String>> {
    let held = sqlx::query_file_scalar!(
        "sql/store/instance_renew.sql",
        instance.0,
        lease_secs,
        role,
        host,
        vitals.secs_since(Vital::Turn),
        vitals.secs_since(Vital::Settle),
        vitals.secs_since(Vital::Planning),
        vitals.secs_since(Vital::Delivery),
        vitals.secs_since(Vital::Housekeeping),
        vitals.secs_since(Vital::Word),
        vitals.newest_attempt()
    );
    held.fetch_one(pool).await
}

/// Says goodbye: nothing is dialing any more.
///
/// # Errors
/// Postgres is away; the lease runs out by itself.
pub async fn leave(pool: &PgPool, instance: InstanceId) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/instance_leave.sql", instance.0).execute(pool).await?;
    Ok(())
}

/// Forgets processes that are long gone.
///
/// # Errors
/// Postgres is away.
pub async fn prune(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/instance_prune.sql").execute(pool).await?;
    Ok(())
}
