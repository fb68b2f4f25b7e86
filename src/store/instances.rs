//! The processes of this installation and their leases.

use sqlx::PgPool;

use crate::domain::ids::InstanceId;

/// Registers or renews this process.
///
/// # Errors
/// Postgres is away.
pub async fn renew(pool: &PgPool, instance: InstanceId, lease_secs: f64, role: &str, host: &str) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/instance_renew.sql", instance.0, lease_secs, role, host).execute(pool).await?;
    Ok(())
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
