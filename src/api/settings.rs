//! How a user's prospects and single calls are called: hours, scripts, the agent, retries. A change acts at once on what waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::State;
use crate::api::auth::Caller;
use crate::api::campaigns::ZonePolicy;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json};
use crate::api::faults::{Faults, SCRIPT_ID_CHARS_MAX};
use crate::api::owner::user_in_path;
use crate::domain::disposition::{Class, Disposition};
use crate::domain::raw_json::RawJson;
use crate::domain::retry::UserRule;
use crate::queue::windows::{self, Scope};
use crate::store::settings::{self, Row};
use crate::store::users;

/// Daily hours on the user's own clock; `endAt` is exclusive, at or before `startAt` it is of the next day.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallingHours {
    #[schema(example = "09:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub start_at: String,
    #[schema(example = "17:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub end_at: String,
}

/// What is said; `{prospectName}` and other variables of the prospect are filled in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scripts {
    /// To people nobody has spoken to yet.
    #[schema(max_length = 20000)]
    pub initial: Option<String>,
    /// To people spoken to before, and at promised times.
    #[schema(max_length = 20000)]
    pub follow_up: Option<String>,
}

/// Who says it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Agent {
    #[schema(max_length = 255, example = "en")]
    pub language: Option<String>,
    #[schema(max_length = 255)]
    pub voice: Option<String>,
    #[schema(max_length = 20000, example = "Hi {prospectName}")]
    pub first_message: Option<String>,
}

/// `PUT /users/{id}/settings`: all of them; what is left out is empty or its default.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingsInput {
    #[schema(example = "America/New_York")]
    pub time_zone: String,
    pub calling_hours: CallingHours,
    pub script: Option<Scripts>,
    pub agent: Option<Agent>,
    /// Dials in all for a prospect's call; 3 unless given.
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<i64>,
    /// Live calls at once, within what an admin allows; without it only that and the global limit count.
    #[schema(minimum = 1, maximum = 100000)]
    pub max_concurrent_calls: Option<i64>,
    pub zone_policy: Option<ZonePolicy>,
    /// By disposition: BUSY, NO_ANSWER, VOICEMAIL, FAILED.
    pub retry_rules: Option<BTreeMap<String, UserRule>>,
}

/// A user's settings.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    pub time_zone: Option<String>,
    pub calling_hours: Option<CallingHours>,
    pub script: Scripts,
    pub agent: Agent,
    pub max_attempts: i16,
    pub max_concurrent_calls: Option<i32>,
    pub zone_policy: Option<String>,
    pub retry_rules: BTreeMap<String, UserRule>,
    pub updated_at: DateTime<Utc>,
}

impl From<Row> for Settings {
    fn from(row: Row) -> Self {
        let shown = |time: NaiveTime| time.format("%H:%M").to_string();
        let calling_hours =
            row.opens.zip(row.closes).map(|(from, to)| CallingHours { start_at: shown(from), end_at: shown(to) });
        Self {
            time_zone: row.time_zone,
            calling_hours,
            script: Scripts { initial: row.script_initial, follow_up: row.script_follow_up },
            agent: Agent { language: row.language, voice: row.voice, first_message: row.first_message },
            max_attempts: row.max_attempts,
            max_concurrent_calls: row.max_concurrent_calls,
            zone_policy: row.zone_policy,
            retry_rules: row.retry_rules.read().unwrap_or_default(),
            updated_at: row.updated_at,
        }
    }
}

impl SettingsInput {
    fn read(self) -> Result<Row, Error> {
        let mut faults = Faults::default();
        let time_zone = faults.checked_zone("timeZone", &self.time_zone);
        let mut time = |path: &str, text: &str| {
            let parsed = NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| text.len() == 5);
            if parsed.is_none() {
                faults.add(path, "must be a time of day, such as 09:00");
            }
            parsed
        };
        let opens = time("callingHours.startAt", &self.calling_hours.start_at);
        let closes = time("callingHours.endAt", &self.calling_hours.end_at);
        let (script, agent) = (self.script.unwrap_or_default(), self.agent.unwrap_or_default());
        for (path, text, most) in [
            ("script.initial", &script.initial, SCRIPT_ID_CHARS_MAX),
            ("script.followUp", &script.follow_up, SCRIPT_ID_CHARS_MAX),
            ("agent.firstMessage", &agent.first_message, SCRIPT_ID_CHARS_MAX),
            ("agent.language", &agent.language, 255),
            ("agent.voice", &agent.voice, 255),
        ] {
            if let Some(text) = text.as_ref().filter(|text| text.trim().is_empty() || text.chars().count() > most) {
                let why = if text.trim().is_empty() {
                    "must not be empty".to_owned()
                } else {
                    format!("may have at most {most} characters")
                };
                faults.add(path, why);
            }
        }
        let max_attempts = faults.check_range("maxAttempts", self.max_attempts.unwrap_or(3), 1..=100);
        let max_concurrent_calls =
            self.max_concurrent_calls.map(|given| faults.check_range("maxConcurrentCalls", given, 1..=100_000));
        let rules = self.retry_rules.unwrap_or_default();
        for (name, rule) in &rules {
            let path = format!("retryRules.{name}");
            let disposition: Option<Disposition> = serde_json::from_value(name.clone().into()).ok();
            if disposition.is_none_or(|disposition| disposition.class() != Class::Retry) {
                faults.add(&path, "must be BUSY, NO_ANSWER, VOICEMAIL or FAILED");
            }
            if let Some(secs) = rule.delay_seconds {
                faults.check_range(&format!("{path}.delaySeconds"), secs.into(), 0..=31_536_000);
            }
            if let Some(dials) = rule.max_dials {
                faults.check_range(&format!("{path}.maxDials"), dials.into(), 1..=100);
            }
        }
        faults.none()?;
        Ok(Row {
            time_zone: Some(time_zone),
            opens,
            closes,
            script_initial: script.initial,
            script_follow_up: script.follow_up,
            language: agent.language,
            voice: agent.voice,
            first_message: agent.first_message,
            max_attempts: i16::try_from(max_attempts).unwrap_or(3),
            max_concurrent_calls,
            zone_policy: self.zone_policy.map(|policy| policy.as_str().to_owned()),
            retry_rules: RawJson::of(&rules),
            updated_at: DateTime::default(),
        })
    }
}

/// Writes a user's settings. Hours act at once on everything of the user that waits outside campaigns.
#[utoipa::path(put, path = "/users/{id}/settings", tag = "users", params(("id" = String, Path, description = "Id or external id")), request_body = SettingsInput,
    responses((status = 200, description = "The settings as they are now", body = Data<Settings>), Problems))]
pub async fn put_settings(
    state: State,
    caller: Caller,
    Id(id): Id,
    input: Json<SettingsInput>,
) -> Result<axum::Json<Data<Settings>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = input.body.read()?;
    let most = users::allowed(&state.0.db.read, user).await?.live_max;
    if let Some(most) = most.filter(|most| row.max_concurrent_calls.is_some_and(|wanted| wanted > *most)) {
        let mut faults = Faults::default();
        faults.add("maxConcurrentCalls", format!("may be at most {most}: an admin decides what a user may have"));
        faults.none()?;
    }
    let api = Arc::clone(&state.0);
    state
        .0
        .detached(async move {
            let mut change = windows::change_and_admit(&api.db.work).await?;
            settings::put(&mut change, user, &row).await?;
            windows::commit(&api.db.work, change, Scope::User(user)).await?;
            crate::queue::wake_user(&api.db.work, user).await?;
            api.doorbell.ring();
            let row = settings::get(&api.db.work, user).await?.ok_or_else(|| Error::not_found("settings"))?;
            Ok(axum::Json(Data::of(row.into())))
        })
        .await
}

/// A user's settings.
#[utoipa::path(get, path = "/users/{id}/settings", tag = "users", params(("id" = String, Path, description = "Id or external id")),
    responses((status = 200, description = "The settings", body = Data<Settings>), Problems))]
pub async fn get_settings(state: State, caller: Caller, Id(id): Id) -> Result<axum::Json<Data<Settings>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    let row = settings::get(&state.0.db.read, user).await?.ok_or_else(|| Error::not_found("settings"))?;
    Ok(axum::Json(Data::of(row.into())))
}
