//! Which prospects are called next: a batch takes the users longest unplanned, and plans each within their quota.
//!
//! The scheduler asks by the clock, the API on demand; any number of instances may, since a batch takes its users by one statement
//! and a prospect has at most one open call (`calls_one_open_per_prospect`). Promised times need no batch: the statement that writes
//! one enqueues it (migration 0006). **Invariant:** never dials, and never plans whom the claim would not let through for good.

use chrono::{DateTime, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::db::fault::caught;
use crate::domain::call::rank;
use crate::domain::hours::{Day, Span, WallTime};
use crate::domain::ids::{CallId, ProspectId, UserId, new_id};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::domain::template::{Unfilled, render};
use crate::domain::window::{ClosedBy, Opening, Rules, Schedule};
use crate::domain::zone::Zone;
use crate::queue::{self, NewCall, Verdict, windows};
use crate::store::planning::{self, Candidate, Facts, Promise};

/// How many users a batch plans, and how many calls for each.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub users: i64,
    pub calls_per_user: i64,
    /// Promises due until the next batch are told with it.
    pub interval_secs: f64,
}

/// What a batch did for a user, or why it skipped them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub user_id: Uuid,
    pub planned_at: DateTime<Utc>,
    /// NO_SETTINGS, NO_SUBSCRIPTION, SUBSCRIPTION_INACTIVE, QUOTA_MINUTES, QUOTA_PER_DAY, QUOTA_PLANNED, NO_PROSPECTS or
    /// WINDOW_NEVER_OPENS; null when it was not skipped.
    pub skipped: Option<String>,
    pub planned: Vec<Planned>,
    /// Prospects that could not be planned, and why.
    pub not_planned: Vec<NotPlanned>,
}

/// A prospect with the time of its call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    pub prospect_id: Uuid,
    pub call_id: Uuid,
    pub scheduled_time: DateTime<Utc>,
    /// Promised by itself; the batch only tells of it.
    pub promised: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotPlanned {
    pub prospect_id: Uuid,
    /// VARIABLE_MISSING, DO_NOT_CALL, WINDOW_NEVER_OPENS, INVALID_NUMBER or UNREADABLE.
    pub reason: String,
    pub detail: Option<String>,
}

/// Prospects looked at beyond those that fit, so that a few which cannot be planned do not hide the others.
const SPARE: i64 = 50;

/// Plans a batch if one is due; none: it is not.
///
/// # Errors
/// Postgres is away; users not reached have their turn in the next rotation.
pub async fn plan_if_due(pool: &PgPool, limits: Limits) -> sqlx::Result<Option<Vec<Report>>> {
    if !planning::take_turn(pool, limits.interval_secs).await? {
        return Ok(None);
    }
    plan(pool, limits).await.map(Some)
}

/// Plans a batch now.
///
/// # Errors
/// Postgres is away; users not reached have their turn in the next rotation.
pub async fn plan(pool: &PgPool, limits: Limits) -> sqlx::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for user in planning::take_users(pool, limits.users).await? {
        // One user's fault, or a passing one of Postgres, does not cost the others their turn.
        let planned = async {
            let report = plan_user(pool, user, limits).await?;
            tell(&report);
            planning::keep_report(pool, user, &RawJson::of(&report)).await?;
            Ok::<_, sqlx::Error>(report)
        };
        match caught("plan", planned).await {
            Ok(report) => reports.push(report),
            Err(error) => tracing::error!(userId = %user, %error, "a user could not be planned; the others are"),
        }
    }
    Ok(reports)
}

fn tell(report: &Report) {
    let user = report.user_id;
    for planned in &report.planned {
        let scheduled = planned.scheduled_time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        tracing::info!(userId = %user, prospectId = %planned.prospect_id, scheduledTime = scheduled, "Scheduled call");
    }
    for refused in &report.not_planned {
        tracing::warn!(userId = %user, prospectId = %refused.prospect_id, reason = refused.reason, detail = refused.detail, "Prospect not scheduled");
    }
    if let Some(reason) = &report.skipped {
        tracing::info!(userId = %user, reason, "User skipped");
    }
}

async fn plan_user(pool: &PgPool, user: UserId, limits: Limits) -> sqlx::Result<Report> {
    let facts = planning::facts(pool, user).await?;
    let promised = planning::promises(pool, user, limits.interval_secs).await?.into_iter().map(Planned::from).collect();
    let mut report =
        Report { user_id: user.0, planned_at: facts.now, skipped: None, planned: promised, not_planned: Vec::new() };
    match room_of(&facts, limits) {
        Err(reason) => report.skipped = Some(reason.to_owned()),
        Ok((ready, room)) => fill(pool, user, &facts, &ready, room, &mut report).await?,
    }
    Ok(report)
}

/// What a user must have set to be planned.
struct Ready<'a> {
    initial: &'a str,
    follow_up: &'a str,
    first_message: &'a str,
    /// When the next call may be.
    opens: DateTime<Utc>,
}

/// How many calls may be planned, or why none.
fn room_of(facts: &Facts, limits: Limits) -> Result<(Ready<'_>, i64), &'static str> {
    let (Some(zone), Some(opens), Some(closes), Some(initial)) =
        (facts.time_zone.as_deref().and_then(Zone::named), facts.opens, facts.closes, facts.script_initial.as_deref())
    else {
        return Err("NO_SETTINGS");
    };
    let follow_up = facts.script_follow_up.as_deref().unwrap_or(initial);
    if !facts.has_subscription {
        return Err("NO_SUBSCRIPTION");
    }
    match facts.quota_reason.as_deref() {
        Some("SUBSCRIPTION_INACTIVE") => return Err("SUBSCRIPTION_INACTIVE"),
        Some("QUOTA_MINUTES") => return Err("QUOTA_MINUTES"),
        Some(_) => return Err("QUOTA_PER_DAY"),
        None => {}
    }
    let room = (facts.calls_left - facts.waiting).min(limits.calls_per_user);
    if room <= 0 {
        return Err("QUOTA_PLANNED");
    }
    let opens = next_opening(zone, opens, closes, facts.now).ok_or("WINDOW_NEVER_OPENS")?;
    let first_message = facts.first_message.as_deref().unwrap_or_default();
    Ok((Ready { initial, follow_up, first_message, opens }, room))
}

/// The next moment within the user's own hours.
fn next_opening(zone: Zone, opens: NaiveTime, closes: NaiveTime, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    use Day::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    let wall =
        |time: NaiveTime| WallTime(i64::from(chrono::Timelike::num_seconds_from_midnight(&time)).div_euclid(60) * 60);
    let hours =
        vec![Span { days: [Mon, Tue, Wed, Thu, Fri, Sat, Sun].into(), opens: wall(opens), closes: wall(closes) }];
    let schedule = Schedule { zone: zone.clone(), hours, closed_dates: Vec::new(), on_callees_clock: false };
    match (Rules { schedule: Some(schedule), callee: vec![(zone, None)] }).opening(now) {
        Opening::Window { window, .. } => DateTime::from_timestamp(window.opens, 0).map(|opens| opens.max(now)),
        Opening::Never(_) => None,
    }
}

async fn fill(
    pool: &PgPool,
    user: UserId,
    facts: &Facts,
    ready: &Ready<'_>,
    room: i64,
    report: &mut Report,
) -> sqlx::Result<()> {
    let candidates = planning::candidates(pool, user, room + SPARE).await?;
    if candidates.is_empty() {
        report.skipped = Some("NO_PROSPECTS".to_owned());
        return Ok(());
    }
    let mut calls = Vec::new();
    for candidate in candidates {
        if i64::try_from(calls.len()).unwrap_or(i64::MAX) >= room {
            break;
        }
        match call_of(user, &candidate, facts, ready) {
            Ok(call) => calls.push(call),
            Err(refused) => report.not_planned.push(refused),
        }
    }
    let closed = windows::place(pool, &mut calls, true).await?;
    let (calls, hopeless): (Vec<_>, Vec<_>) = calls.into_iter().zip(closed).partition(|(_, closed)| closed.is_none());
    for (call, closed) in hopeless {
        report.not_planned.push(refusal(&call, closed.map_or("WINDOW_NEVER_OPENS", ClosedBy::as_str)));
    }
    // Those come after the others from now on, until they change.
    let refused: Vec<Uuid> = report.not_planned.iter().map(|refused| refused.prospect_id).collect();
    planning::refuse(pool, &refused).await?;
    let calls: Vec<NewCall> = calls.into_iter().map(|(call, _)| call).collect();
    if calls.is_empty() {
        return Ok(());
    }
    for (call, verdict) in calls.iter().zip(queue::enqueue(pool, &calls).await?) {
        match verdict {
            Verdict::Created { due_at, .. } => report.planned.push(Planned {
                prospect_id: call.prospect_id.map(|id| id.0).unwrap_or_default(),
                call_id: call.id.0,
                scheduled_time: due_at,
                promised: false,
            }),
            Verdict::Suppressed => report.not_planned.push(refusal(call, "DO_NOT_CALL")),
            // Somebody else was faster.
            Verdict::Duplicate { .. } | Verdict::Exists => {}
        }
    }
    Ok(())
}

fn refusal(call: &NewCall, reason: &str) -> NotPlanned {
    let prospect_id = call.prospect_id.map(|id| id.0).unwrap_or_default();
    NotPlanned { prospect_id, reason: reason.to_owned(), detail: None }
}

/// The call to a prospect. Its script is filled in when it is dialed; that it can be is found out here.
fn call_of(user: UserId, prospect: &Candidate, facts: &Facts, ready: &Ready<'_>) -> Result<NewCall, NotPlanned> {
    let refused = |reason: &str, detail: String| NotPlanned {
        prospect_id: prospect.id,
        reason: reason.to_owned(),
        detail: Some(detail),
    };
    let script = if prospect.known { ready.follow_up } else { ready.initial };
    let variables =
        prospect.variables.fields().ok_or_else(|| refused("UNREADABLE", "variables: is no object".to_owned()))?;
    for text in [script, ready.first_message] {
        render(text, &variables).map_err(|unfilled| {
            let reason = match unfilled {
                Unfilled::Missing { .. } => "VARIABLE_MISSING",
                Unfilled::TooLong => "SCRIPT_TOO_LONG",
            };
            refused(reason, unfilled.to_string())
        })?;
    }
    let phone = PhoneNumber::parse(&prospect.phone).map_err(|error| refused("INVALID_NUMBER", error.to_string()))?;
    Ok(NewCall {
        id: CallId(new_id()),
        user_id: user,
        lane_id: user.own_lane(),
        campaign_id: None,
        rank: rank::NORMAL,
        priority: rank::NORMAL,
        due_at: Some(ready.opens),
        expires_at: None,
        phone,
        script_id: script.to_owned(),
        metadata: json!({ "prospectId": prospect.id }).into(),
        variables: prospect.variables.clone(),
        external_id: None,
        time_zone: prospect.time_zone.clone(),
        ignore_window: false,
        prospect_id: Some(ProspectId(prospect.id)),
        dials_max: facts.max_attempts,
        reject_duplicate: false,
    })
}

impl From<Promise> for Planned {
    fn from(promise: Promise) -> Self {
        Self {
            prospect_id: promise.prospect_id,
            call_id: promise.call_id,
            scheduled_time: promise.due_at,
            promised: true,
        }
    }
}
