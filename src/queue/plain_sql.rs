//! What plain SQL has changed (migration 0025): it is noted by triggers, takes effect here, and its user's calls are not claimed in between.
//! So a session that stays open after it wrote holds no lock that others wait for. Calls by plain SQL are placed by
//! [`super::windows::sort`].
//!
//! **Invariant:** a change that cannot take effect holds its own user alone (tests/it/isolation.rs).

use sqlx::PgPool;
use uuid::Uuid;

use crate::db::fault;
use crate::queue::admit;

/// Users looked at in one round.
const USERS_MAX: i64 = 1000;
/// Changes taken in by one transaction: claims wait for it.
const CHANGES_MAX: i32 = 25;

/// Takes in what is there, a little of each user at a time; how many changes that were. What somebody's session holds stays.
///
/// # Errors
/// Postgres is away.
pub async fn take_in(pool: &PgPool) -> sqlx::Result<i32> {
    let mut taken = 0;
    let mut users = sqlx::query_file_scalar!("sql/queue/changed_users.sql", USERS_MAX).fetch_all(pool).await?;
    while !users.is_empty() {
        let mut with_more = Vec::new();
        for user in users {
            match take_in_of(pool, user).await {
                Ok(done) => {
                    taken += done;
                    if done == CHANGES_MAX {
                        with_more.push(user);
                    }
                }
                Err(error) if fault::is_of_the_rows(&error) => {
                    tracing::debug!(user.id = %user, %error, "what plain SQL changed is held by a session; later");
                }
                Err(error) if fault::is_of_the_values(&error) || fault::is_of_the_statement(&error) => {
                    tracing::error!(user.id = %user, %error, "what plain SQL changed cannot take effect: this user's calls wait; see table sql_changes");
                }
                Err(error) => return Err(error),
            }
        }
        users = with_more;
    }
    Ok(taken)
}

async fn take_in_of(pool: &PgPool, user: Uuid) -> sqlx::Result<i32> {
    let mut connection = pool.acquire().await?;
    let mut transaction = admit(&mut connection).await?;
    let taken = sqlx::query_file_scalar!("sql/queue/take_in_changes.sql", user, CHANGES_MAX)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(taken)
}
