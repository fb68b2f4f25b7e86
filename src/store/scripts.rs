//! Scripts: what agents are told.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ids::{CallId, ScriptId, UserId};
use crate::domain::raw_json::RawJson;
use crate::domain::script::{Allowances, Script};
use crate::store::{Named, Slice};

/// A script as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Script)]
pub struct Row {
    pub id: Uuid,
    pub user_id: Uuid,
    /// The `scriptId` of calls and campaigns.
    pub external_id: String,
    pub prompt: Option<String>,
    pub agent_id: Option<String>,
    pub voice: Option<String>,
    pub language: Option<String>,
    pub first_message: Option<String>,
    #[schema(value_type = Vec<Object>)]
    pub tools: RawJson,
    pub max_duration_secs: Option<i32>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Creates a script; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away, or the user has another with this external id.
pub async fn create(pool: &PgPool, id: ScriptId, user: UserId, external_id: &str, script: &Script) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/store/script_create.sql",
        id.0,
        user.0,
        external_id,
        script.prompt,
        script.agent_id,
        script.voice,
        script.language,
        script.first_message,
        script.tools.clone() as _,
        script.max_duration_secs
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Those this name means: none, one, or (of several users) two.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, named: &Named, user: Option<UserId>) -> sqlx::Result<Vec<Row>> {
    let user = user.map(|user| user.0);
    sqlx::query_file_as!(Row, "sql/store/script_find.sql", named.id, named.external_id, user).fetch_all(pool).await
}

/// Scripts, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, slice: &Slice) -> sqlx::Result<(Vec<Row>, i64)> {
    let user = slice.user.map(|user| user.0);
    let rows = sqlx::query_file_as!(Row, "sql/store/script_list.sql", user, slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/script_count.sql", user).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// Writes a script anew.
///
/// # Errors
/// Postgres is away.
pub async fn update(pool: &PgPool, id: ScriptId, to: &Script) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/store/script_update.sql",
        id.0,
        to.prompt,
        to.agent_id,
        to.voice,
        to.language,
        to.first_message,
        to.tools.clone() as _,
        to.max_duration_secs
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes a script; not one that a campaign or a waiting call names, and says so.
///
/// # Errors
/// Postgres is away.
pub async fn delete(pool: &PgPool, id: ScriptId) -> sqlx::Result<bool> {
    let done = sqlx::query_file!("sql/store/script_delete.sql", id.0).execute(pool).await?;
    Ok(done.rows_affected() > 0)
}

/// What a call's `script_id` names, of the call's own user, and what its scripts may name; none: nothing that is stored.
///
/// # Errors
/// Postgres is away.
pub async fn named_by_call(pool: &PgPool, call: CallId, script_id: &str) -> sqlx::Result<Option<(Script, Allowances)>> {
    let row = sqlx::query_file!("sql/store/script_named_by_call.sql", call.0, script_id).fetch_optional(pool).await?;
    Ok(row.map(|row| {
        let script = Script {
            prompt: row.prompt,
            agent_id: row.agent_id,
            voice: row.voice,
            language: row.language,
            first_message: row.first_message,
            tools: row.tools,
            max_duration_secs: row.max_duration_secs,
        };
        (script, Allowances { agents: row.allowed_agents, tools: row.allowed_tools })
    }))
}
