//! Campaigns: lists of calls with one script, one schedule, their own limits and retries. Every change acts at once on what waits.

pub mod numbers;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::calls::Call;
use crate::api::calls::read::Whose;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json, Query};
use crate::api::faults::{Faults, given};
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::{owner_of, scope_in_path, the_one};
use crate::api::paging::PageQuery;
use crate::api::{Api, State, schedules};
use crate::db::fault::within;
use crate::domain::ids::{CallId, CampaignId, ScheduleId, UserId};
use crate::queue::{self, CampaignChanges, NewCampaign};
use crate::store::Named;
use crate::store::calls::{self, Filter};
use crate::store::campaigns::{self, Counts, Row, WaitingReason};

const CONCURRENT_DEFAULT: i64 = 5;
const RETRIES_DEFAULT: i64 = 3;
const RETRY_DELAY_DEFAULT: i64 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HoursIn {
    /// On the schedule's clock (the default).
    Schedule,
    /// On the clock of whoever is called.
    Callee,
}

impl HoursIn {
    fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Callee => "callee",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ZonePolicy {
    /// The schedule's or user's zone stands in for one that is unknown.
    User,
    /// Nobody is called whose zone is unknown.
    Hold,
}

impl ZonePolicy {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Hold => "hold",
        }
    }
}

/// `POST /campaigns`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CampaignInput {
    pub user_id: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub name: String,
    /// Id or external id; without a schedule only legal hours bind.
    pub schedule_id: Option<String>,
    #[schema(min_length = 1, max_length = 20000)]
    pub script_id: String,
    /// Live calls at once; 5 unless given.
    #[schema(minimum = 1, maximum = 100000)]
    pub max_concurrent_calls: Option<i64>,
    /// Dials after the first; 3 unless given, so 4 dials.
    #[schema(minimum = 0, maximum = 100)]
    pub max_retries: Option<i64>,
    /// Seconds between dials; 300 unless given.
    #[schema(minimum = 0, maximum = 31536000)]
    pub retry_delay_seconds: Option<i64>,
    pub hours_in: Option<HoursIn>,
    pub zone_policy: Option<ZonePolicy>,
    pub paused: Option<bool>,
}

/// `PATCH /campaigns/{id}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CampaignUpdate {
    #[schema(min_length = 1, max_length = 255)]
    pub name: Option<String>,
    /// Null: no schedule any more.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub schedule_id: Option<Option<String>>,
    #[schema(min_length = 1, max_length = 20000)]
    pub script_id: Option<String>,
    #[schema(minimum = 1, maximum = 100000)]
    pub max_concurrent_calls: Option<i64>,
    #[schema(minimum = 0, maximum = 100)]
    pub max_retries: Option<i64>,
    #[schema(minimum = 0, maximum = 31536000)]
    pub retry_delay_seconds: Option<i64>,
    pub hours_in: Option<HoursIn>,
    /// Null: as the provider wants it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ZonePolicy>)]
    pub zone_policy: Option<Option<ZonePolicy>>,
    pub paused: Option<bool>,
}

fn check_limits(
    faults: &mut Faults,
    concurrent: Option<i64>,
    retries: Option<i64>,
    delay: Option<i64>,
) -> (Option<i32>, Option<i32>, Option<i32>) {
    (
        concurrent.map(|given| faults.check_range("maxConcurrentCalls", given, 1..=100_000)),
        retries.map(|given| faults.check_range("maxRetries", given, 0..=100)),
        delay.map(|given| faults.check_range("retryDelaySeconds", given, 0..=31_536_000)),
    )
}

/// The schedule a campaign of this user names.
async fn schedule_of(api: &Api, user: UserId, named: &str) -> Result<ScheduleId, Error> {
    let whose = Whose { user_id: None };
    match schedules::find(api, Caller::User(user), named, &whose).await {
        Ok(schedule) => Ok(ScheduleId(schedule.id)),
        Err(error) if error.status() == StatusCode::NOT_FOUND => {
            Err(Error::invalid_field("scheduleId", "the user has no such schedule"))
        }
        Err(error) => Err(error),
    }
}

/// The campaign a path means.
///
/// # Errors
/// 404, or 409 when an external id fits several users' campaigns.
pub async fn find(api: &Api, caller: Caller, id: &str, whose: &Whose) -> Result<Row, Error> {
    let scope = scope_in_path(api, caller, whose.user_id.as_deref()).await?;
    let named = Named::from(id);
    let finding = campaigns::find(&api.db.read, &named, scope);
    the_one(within(api.limits.patience, finding).await?, "campaign")
}

async fn shown(api: &Api, id: CampaignId) -> Result<Row, Error> {
    the_one(campaigns::find(&api.db.work, &Named { id: Some(id.0), external_id: None }, None).await?, "campaign")
}

/// Creates a campaign. It runs by itself as soon as it has numbers, unless it is paused.
#[utoipa::path(post, path = "/campaigns", tag = "campaigns", params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = CampaignInput, responses((status = 201, description = "Created", body = Data<Row>), Problems))]
pub async fn create_campaign(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<CampaignInput>,
) -> Result<Response<Body>, Error> {
    let body = input.body;
    let mut faults = Faults::default();
    faults.check_name("name", &body.name);
    faults.check_script_id("scriptId", &body.script_id);
    if let Some(external_id) = &body.external_id {
        faults.check_external_id(external_id);
    }
    let (concurrent, retries, delay) = check_limits(
        &mut faults,
        body.max_concurrent_calls.or(Some(CONCURRENT_DEFAULT)),
        body.max_retries.or(Some(RETRIES_DEFAULT)),
        body.retry_delay_seconds.or(Some(RETRY_DELAY_DEFAULT)),
    );
    faults.none()?;
    let user_id = owner_of(&state.0, caller, body.user_id.as_deref()).await?;
    let schedule_id = match &body.schedule_id {
        Some(named) => Some(schedule_of(&state.0, user_id, named).await?),
        None => None,
    };
    let draft = NewCampaign {
        id: CampaignId(uuid::Uuid::nil()),
        user_id,
        schedule_id,
        name: body.name,
        script_id: body.script_id,
        max_concurrent_calls: concurrent.unwrap_or_default(),
        max_retries: retries.unwrap_or_default(),
        retry_delay_secs: delay.unwrap_or_default(),
        hours_in: body.hours_in.unwrap_or(HoursIn::Schedule).as_str(),
        zone_policy: body.zone_policy.map(ZonePolicy::as_str),
        paused: body.paused.unwrap_or_default(),
        external_id: body.external_id,
    };
    let api = Arc::clone(&state.0);
    once(&state.0, caller.itself(), key, &input.hash, move |seed| async move {
        let id = CampaignId(seed);
        queue::create_campaign(&api.db.work, &NewCampaign { id, ..draft }).await?;
        Answer::json(StatusCode::CREATED, &Data::of(shown(&api, id).await?))
    })
    .await
}

/// Campaigns, newest first.
#[utoipa::path(get, path = "/campaigns", tag = "campaigns", params(PageQuery),
    responses((status = 200, description = "A page of campaigns", body = Page<Row>), Problems))]
pub async fn list_campaigns(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Row>>, Error> {
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = campaigns::list(&state.0.db.read, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |campaign| campaign.id)))
}

/// One campaign.
#[utoipa::path(get, path = "/campaigns/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The campaign", body = Data<Row>), Problems))]
pub async fn get_campaign(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Row>>, Error> {
    Ok(axum::Json(Data::of(find(&state.0, caller, &id, &whose).await?)))
}

/// Changes a campaign while it runs; its waiting calls follow at once.
#[utoipa::path(patch, path = "/campaigns/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose), request_body = CampaignUpdate,
    responses((status = 200, description = "The campaign as it is now", body = Data<Row>), Problems))]
pub async fn update_campaign(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
    input: Json<CampaignUpdate>,
) -> Result<axum::Json<Data<Row>>, Error> {
    let campaign = find(&state.0, caller, &id, &whose).await?;
    let body = input.body;
    let mut faults = Faults::default();
    if let Some(name) = &body.name {
        faults.check_name("name", name);
    }
    if let Some(script_id) = &body.script_id {
        faults.check_script_id("scriptId", script_id);
    }
    let (max_concurrent_calls, max_retries, retry_delay_secs) =
        check_limits(&mut faults, body.max_concurrent_calls, body.max_retries, body.retry_delay_seconds);
    faults.none()?;
    let schedule_id = match body.schedule_id {
        None => None,
        Some(None) => Some(None),
        Some(Some(named)) => Some(Some(schedule_of(&state.0, UserId(campaign.user_id), &named).await?)),
    };
    let changes = CampaignChanges {
        name: body.name,
        script_id: body.script_id,
        max_concurrent_calls,
        max_retries,
        retry_delay_secs,
        hours_in: body.hours_in.map(HoursIn::as_str),
        schedule_id,
        zone_policy: body.zone_policy.map(|policy| policy.map(ZonePolicy::as_str)),
        paused: body.paused,
    };
    change(&state.0, campaign, changes).await
}

/// Changes it, and after a pause answers only when nothing claimed before can still be sent unseen.
async fn change(api: &Arc<Api>, campaign: Row, changes: CampaignChanges) -> Result<axum::Json<Data<Row>>, Error> {
    if campaign.canceled_at.is_some() && changes.paused == Some(false) {
        return Err(Error::conflict("wrong_state", "the campaign is canceled for good"));
    }
    let id = CampaignId(campaign.id);
    let inner = Arc::clone(api);
    api.detached(async move {
        queue::update_campaign(&inner.db.work, id, &changes).await?;
        inner.doorbell.ring();
        if changes.paused == Some(true) {
            tokio::time::sleep(inner.limits.look_again_after).await;
        }
        Ok(axum::Json(Data::of(shown(&inner, id).await?)))
    })
    .await
}

/// Pauses a campaign: once this answers, nothing but dials already being sent goes out.
#[utoipa::path(post, path = "/campaigns/{id}/pause", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The campaign as it is now", body = Data<Row>), Problems))]
pub async fn pause_campaign(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Row>>, Error> {
    let campaign = find(&state.0, caller, &id, &whose).await?;
    change(&state.0, campaign, CampaignChanges { paused: Some(true), ..CampaignChanges::default() }).await
}

/// Lets a paused campaign run on.
#[utoipa::path(post, path = "/campaigns/{id}/resume", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The campaign as it is now", body = Data<Row>), Problems))]
pub async fn resume_campaign(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Row>>, Error> {
    let campaign = find(&state.0, caller, &id, &whose).await?;
    change(&state.0, campaign, CampaignChanges { paused: Some(false), ..CampaignChanges::default() }).await
}

/// The same as resume.
#[utoipa::path(post, path = "/campaigns/{id}/start", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The campaign as it is now", body = Data<Row>), Problems))]
pub async fn start_campaign(
    state: State,
    caller: Caller,
    id: Id,
    whose: Query<Whose>,
) -> Result<axum::Json<Data<Row>>, Error> {
    resume_campaign(state, caller, id, whose).await
}

/// Cancels a campaign for good: waiting calls end CANCELED, hang-ups are asked for live ones.
#[utoipa::path(post, path = "/campaigns/{id}/cancel", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The campaign as it is now", body = Data<Row>), Problems))]
pub async fn cancel_campaign(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Row>>, Error> {
    let campaign = find(&state.0, caller, &id, &whose).await?;
    let id = CampaignId(campaign.id);
    end(&state.0, id, false).await?;
    Ok(axum::Json(Data::of(shown(&state.0, id).await?)))
}

/// Cancels a campaign and hides it; its calls stay readable.
#[utoipa::path(delete, path = "/campaigns/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_campaign(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<StatusCode, Error> {
    let campaign = find(&state.0, caller, &id, &whose).await?;
    end(&state.0, CampaignId(campaign.id), true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Calls ended with the request; more are ended in the background.
const ENDED_AT_ONCE: i64 = 1000;

async fn end(api: &Arc<Api>, id: CampaignId, deletes: bool) -> Result<(), Error> {
    let inner = Arc::clone(api);
    api.detached(async move {
        queue::cancel_campaign(&inner.db.work, id, deletes).await?;
        queue::sweep_canceled(&inner.db.work, Some(id), ENDED_AT_ONCE).await?;
        tokio::time::sleep(inner.limits.look_again_after).await;
        inner.doorbell.ring();
        Ok(())
    })
    .await
}

/// Counts and rates.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    #[serde(flatten)]
    pub counts: Counts,
    /// Of all calls, those that have ended.
    pub progress_rate: f64,
    /// Of the calls that have ended, those that were completed.
    pub completion_rate: f64,
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts of calls are far below 2^53")]
fn rate(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e4).round() / 1e4 }
}

/// Counts of a campaign's calls, exact at any moment.
#[utoipa::path(get, path = "/campaigns/{id}/stats", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The counts", body = Data<Stats>), Problems))]
pub async fn get_campaign_stats(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Stats>>, Error> {
    let campaign = find(&state.0, caller, &id, &whose).await?;
    let counts = campaigns::stats(&state.0.db.read, CampaignId(campaign.id)).await?;
    let ended = counts.total - counts.pending - counts.in_progress;
    let (progress_rate, completion_rate) = (rate(ended, counts.total), rate(counts.completed, ended));
    Ok(axum::Json(Data::of(Stats { counts, progress_rate, completion_rate })))
}

/// Why the calls of a campaign wait.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explanation {
    pub waiting: i64,
    pub reasons: Vec<WaitingReason>,
}

/// Why the calls of a campaign wait: counts by reason, and when each next clears.
#[utoipa::path(get, path = "/campaigns/{id}/explain", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The reasons", body = Data<Explanation>), Problems))]
pub async fn explain_campaign(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<Explanation>>, Error> {
    let campaign = find(&state.0, caller, &id, &whose).await?;
    let reasons = campaigns::explain(&state.0.db.read, CampaignId(campaign.id)).await?;
    let waiting = reasons.iter().map(|reason| reason.count).sum();
    Ok(axum::Json(Data::of(Explanation { waiting, reasons })))
}

/// The calls of a campaign, newest first.
#[utoipa::path(get, path = "/campaigns/{id}/calls", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), PageQuery),
    responses((status = 200, description = "A page of calls", body = Page<Call>), Problems))]
pub async fn list_campaign_calls(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Call>>, Error> {
    let (asked, _) = query.slice(&state.0, caller).await?;
    let campaign = find(&state.0, caller, &id, &Whose { user_id: query.user_id }).await?;
    let filter = Filter { campaign: Some(CampaignId(campaign.id)), ..Filter::default() };
    let pool = &state.0.db.read;
    let rows = calls::list(pool, &filter, asked.below.map(CallId), asked.rows(), asked.offset).await?;
    let total = calls::count(pool, &filter).await?;
    Ok(axum::Json(asked.page(rows.into_iter().map(Call::from).collect(), total, |call| call.id)))
}
