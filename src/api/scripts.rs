//! Scripts: what agents are told, by the name calls and campaigns use as their `scriptId`. An edited script holds for what is dialed
//! from then on. A `scriptId` that names none is the prompt itself.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::calls::read::Whose;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json, Query};
use crate::api::faults::{Faults, given};
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::{owner_of, scope_in_path, the_one};
use crate::api::paging::PageQuery;
use crate::api::{Api, State};
use crate::domain::ids::{ScriptId, UserId};
use crate::domain::raw_json::RawJson;
use crate::domain::script::{Allowances, Script, is_provider_name};
use crate::store::Named;
use crate::store::scripts::{self, Row};
use crate::store::users;

const PROMPT_CHARS_MAX: usize = 100_000;
const TOOLS_MAX: usize = 50;
const TOOLS_BYTES_MAX: usize = 100_000;

/// `POST /scripts`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScriptInput {
    pub user_id: Option<String>,
    /// The `scriptId` of calls and campaigns.
    #[schema(min_length = 1, max_length = 255, example = "welcomeFlow")]
    pub external_id: String,
    /// What the agent is told; `{names}` are filled in from the call's variables. Either this or `agentId`.
    #[schema(min_length = 1, max_length = 100000)]
    pub prompt: Option<String>,
    /// An agent kept at the provider; it is given the call's variables.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub agent_id: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub voice: Option<String>,
    /// BCP 47
    #[schema(min_length = 1, max_length = 16)]
    pub language: Option<String>,
    /// Said to somebody who does not speak first.
    #[schema(min_length = 1, max_length = 20000)]
    pub first_message: Option<String>,
    /// In the provider's own shape, handed on as they are. Without any, the agent can hang up. How the call went it can always report.
    #[schema(value_type = Option<Vec<Object>>, max_items = 50)]
    pub tools: Option<Vec<Box<RawValue>>>,
    /// The longest call; never more than the minutes that are left.
    #[schema(minimum = 30, maximum = 14400)]
    pub max_duration_secs: Option<i64>,
}

/// `PATCH /scripts/{id}`: what is given is changed; null empties a field.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScriptChanges {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100000)]
    pub prompt: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub agent_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    pub voice: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 16)]
    pub language: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 20000)]
    pub first_message: Option<Option<String>>,
    #[schema(value_type = Option<Vec<Object>>, max_items = 50)]
    pub tools: Option<Vec<Box<RawValue>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 30, maximum = 14400)]
    pub max_duration_secs: Option<Option<i64>>,
}

fn check(faults: &mut Faults, script: &Script) {
    if script.prompt.is_some() == script.agent_id.is_some() {
        faults.add(
            "prompt",
            "give either a prompt or an agentId; to change from one to the other, set the one that was to null",
        );
    }
    for (path, given, most) in [
        ("prompt", &script.prompt, PROMPT_CHARS_MAX),
        ("voice", &script.voice, 255),
        ("language", &script.language, 16),
        ("firstMessage", &script.first_message, 20_000),
    ] {
        if given.as_ref().is_some_and(|given| given.trim().is_empty() || given.chars().count() > most) {
            faults.add(path, format!("must have 1 to {most} characters"));
        }
    }
    if !script.agent_id.as_deref().is_none_or(is_provider_name) {
        faults.add("agentId", "must be the provider's id of an agent: 1 to 64 letters, digits, dashes");
    }
}

/// What of the provider's account it names that its owner may not.
fn check_allowed(faults: &mut Faults, script: &Script, allowed: &Allowances) {
    for found in script.forbidden(allowed) {
        faults.add(&found.path, found.why);
    }
}

/// Tools as they are kept.
fn checked_tools(faults: &mut Faults, tools: Vec<Box<RawValue>>) -> RawJson {
    let count = tools.len();
    let tools: Vec<RawJson> = tools
        .into_iter()
        .enumerate()
        .map(|(nth, tool)| {
            let path = format!("tools.{nth}");
            let tool = faults.checked_json(&path, Some(tool), TOOLS_BYTES_MAX).unwrap_or_default();
            if !tool.is_object() {
                faults.add(&path, "must be an object");
            }
            tool
        })
        .collect();
    let tools = RawJson::of(&tools);
    if count > TOOLS_MAX || tools.len() > TOOLS_BYTES_MAX {
        faults.add("tools", format!("may be at most {TOOLS_MAX}, of {TOOLS_BYTES_MAX} bytes as JSON"));
    }
    tools
}

async fn find(api: &Api, caller: Caller, id: &str, whose: &Whose) -> Result<Row, Error> {
    let scope = scope_in_path(api, caller, whose.user_id.as_deref()).await?;
    the_one(scripts::find(&api.db.read, &Named::from(id), scope).await?, "script")
}

async fn shown(api: &Api, id: ScriptId) -> Result<Row, Error> {
    the_one(scripts::find(&api.db.work, &Named { id: Some(id.0), external_id: None }, None).await?, "script")
}

/// Creates a script.
#[utoipa::path(post, path = "/scripts", tag = "campaigns", params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = ScriptInput, responses((status = 201, description = "Created", body = Data<Row>), Problems))]
pub async fn create_script(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<ScriptInput>,
) -> Result<Response<Body>, Error> {
    let body = input.body;
    let mut faults = Faults::default();
    faults.check_external_id(&body.external_id);
    let script = Script {
        prompt: body.prompt,
        agent_id: body.agent_id,
        voice: body.voice,
        language: body.language,
        first_message: body.first_message,
        tools: checked_tools(&mut faults, body.tools.unwrap_or_default()),
        max_duration_secs: body.max_duration_secs.map(|secs| faults.check_range("maxDurationSecs", secs, 30..=14_400)),
    };
    check(&mut faults, &script);
    let user = owner_of(&state.0, caller, body.user_id.as_deref()).await?;
    check_allowed(&mut faults, &script, &users::allowed(&state.0.db.read, user).await?.scripts);
    faults.none()?;
    let (api, external_id) = (Arc::clone(&state.0), body.external_id);
    once(&state.0, caller.itself(), key, &input.hash, move |seed| async move {
        let id = ScriptId(seed);
        scripts::create(&api.db.work, id, user, &external_id, &script).await?;
        Answer::json(StatusCode::CREATED, &Data::of(shown(&api, id).await?))
    })
    .await
}

/// Scripts, newest first.
#[utoipa::path(get, path = "/scripts", tag = "campaigns", params(PageQuery),
    responses((status = 200, description = "A page of scripts", body = Page<Row>), Problems))]
pub async fn list_scripts(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Row>>, Error> {
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = scripts::list(&state.0.db.read, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |script| script.id)))
}

/// One script.
#[utoipa::path(get, path = "/scripts/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The script", body = Data<Row>), Problems))]
pub async fn get_script(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Row>>, Error> {
    Ok(axum::Json(Data::of(find(&state.0, caller, &id, &whose).await?)))
}

/// Changes a script, for what is dialed from now on.
#[utoipa::path(patch, path = "/scripts/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose), request_body = ScriptChanges,
    responses((status = 200, description = "The script as it is now", body = Data<Row>), Problems))]
pub async fn update_script(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
    changes: Json<ScriptChanges>,
) -> Result<axum::Json<Data<Row>>, Error> {
    let now = find(&state.0, caller, &id, &whose).await?;
    let to = changes.body;
    let mut faults = Faults::default();
    let max_duration_secs = match to.max_duration_secs {
        Some(given) => given.map(|secs| faults.check_range("maxDurationSecs", secs, 30..=14_400)),
        None => now.max_duration_secs,
    };
    let script = Script {
        prompt: to.prompt.unwrap_or(now.prompt),
        agent_id: to.agent_id.unwrap_or(now.agent_id),
        voice: to.voice.unwrap_or(now.voice),
        language: to.language.unwrap_or(now.language),
        first_message: to.first_message.unwrap_or(now.first_message),
        tools: to.tools.map_or(now.tools, |tools| checked_tools(&mut faults, tools)),
        max_duration_secs,
    };
    check(&mut faults, &script);
    check_allowed(&mut faults, &script, &users::allowed(&state.0.db.read, UserId(now.user_id)).await?.scripts);
    faults.none()?;
    let (api, id) = (Arc::clone(&state.0), ScriptId(now.id));
    state
        .0
        .detached(async move {
            scripts::update(&api.db.work, id, &script).await?;
            Ok(axum::Json(Data::of(shown(&api, id).await?)))
        })
        .await
}

/// Deletes a script that neither a campaign nor a waiting call names: they would take the name for the prompt.
#[utoipa::path(delete, path = "/scripts/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_script(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<StatusCode, Error> {
    let script = find(&state.0, caller, &id, &whose).await?;
    if scripts::delete(&state.0.db.work, ScriptId(script.id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::conflict(
            "script_in_use",
            "a campaign or a waiting call names this script: cancel it, or give it another, first",
        ))
    }
}
