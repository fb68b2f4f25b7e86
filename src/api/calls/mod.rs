//! Calls on the API: what is taken in, what is shown.

pub mod create;
pub mod input;
pub mod read;
pub mod steer;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::error::Error;
use crate::domain::call::{AttemptState, CallState, CallStatus, Priority};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::domain::window::ClosedBy;
use crate::store::calls::{AttemptRow, Row, WaitingRow};

/// Why a number may not be dialed at any time; `field` is where it stands.
pub fn closed_for_good(why: ClosedBy, field: &'static str, number: Option<&PhoneNumber>) -> Error {
    match why {
        ClosedBy::InvalidNumber => {
            let what = number.and_then(PhoneNumber::impossible).unwrap_or("is no number that a network takes");
            Error::invalid_field(field, format!("{what}; an example is +14155550100"))
        }
        ClosedBy::Destination => Error::conflict(
            "destination_not_allowed",
            "the user may not have numbers of this country or kind called; an admin can allow them (allowedCountries, allowedDestinations)",
        ),
        _ => Error::conflict(
            "window_never_opens",
            "the calling hours and the legal hours of the number's time zones never meet",
        ),
    }
}

/// What a call asks for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// E.164.
    #[schema(example = "+966501234567")]
    pub to: String,
    #[schema(example = "welcomeFlow")]
    pub script_id: String,
    #[schema(value_type = Object)]
    pub metadata: RawJson,
    #[schema(value_type = Object)]
    pub variables: RawJson,
}

/// A call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    pub id: Uuid,
    pub user_id: Uuid,
    pub campaign_id: Option<Uuid>,
    pub external_id: Option<String>,
    pub payload: Payload,
    pub status: CallStatus,
    /// Dials so far.
    pub attempts: i16,
    /// Dials in all before it is FAILED.
    pub max_attempts: i16,
    pub priority: Priority,
    /// Not before.
    pub scheduled_at: DateTime<Utc>,
    /// Not after.
    pub expires_at: Option<DateTime<Utc>>,
    pub time_zone: Option<String>,
    /// How the last attempt ended.
    pub disposition: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// When it is dialed next at the earliest; null unless PENDING.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// One time we dialed for a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// The attempt's id, as webhooks name it.
    pub conversation_id: Uuid,
    pub number: i32,
    pub state: AttemptState,
    /// Whether it counts as a dial.
    pub dialed: bool,
    pub provider: String,
    /// The provider's id of the call.
    pub external_call_id: Option<String>,
    pub claimed_at: DateTime<Utc>,
    pub accepted_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub disposition: Option<String>,
    pub hangup_cause: Option<String>,
    /// Length in seconds, as the provider says.
    pub duration: Option<i32>,
    #[schema(value_type = Option<Object>)]
    pub outcome: Option<RawJson>,
}

/// Why a call waits.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// CAMPAIGN_PAUSED, ZONE_UNKNOWN, WINDOW_NEVER_OPENS, SCHEDULED_LATER, RETRY_LATER, CLOSED_DATE, WINDOW_CLOSED, LEGAL_HOURS,
    /// NUMBER_BUSY, CAMPAIGN_LIMIT, USER_LIMIT, GLOBAL_LIMIT, BREAKER_OPEN, PROVIDER_CAPACITY, PROVIDER_RATE or DUE_NOW.
    #[schema(example = "DUE_NOW")]
    pub reason: String,
    /// When that clears by itself; null when a person or another call must clear it.
    pub clears_at: Option<DateTime<Utc>>,
    /// For NUMBER_BUSY, the call that has the number, if it is the same user's.
    pub detail: Option<String>,
}

/// A call with all that happened to it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallDetail {
    #[serde(flatten)]
    pub call: Call,
    pub conversations: Vec<Conversation>,
    /// Null when it does not wait.
    pub waiting: Option<Waiting>,
}

impl From<Row> for Call {
    fn from(row: Row) -> Self {
        let waits = matches!(row.state, CallState::Waiting | CallState::Parked);
        Self {
            id: row.id,
            user_id: row.user_id,
            campaign_id: row.campaign_id,
            external_id: row.external_id,
            payload: Payload {
                to: row.phone,
                script_id: row.script_id,
                metadata: row.metadata,
                variables: row.variables,
            },
            status: row.state.status(),
            attempts: row.dials,
            max_attempts: row.dials_max,
            priority: Priority::of_rank(row.priority),
            scheduled_at: row.due_at,
            expires_at: row.expires_at,
            time_zone: row.time_zone,
            disposition: row.disposition,
            created_at: row.created_at,
            updated_at: row.updated_at,
            ended_at: row.ended_at,
            next_attempt_at: row.next_at.filter(|_| waits),
        }
    }
}

impl From<AttemptRow> for Conversation {
    fn from(row: AttemptRow) -> Self {
        Self {
            conversation_id: row.id,
            number: row.number,
            state: row.state,
            dialed: row.dialed,
            provider: row.provider,
            external_call_id: row.provider_call_id,
            claimed_at: row.claimed_at,
            accepted_at: row.accepted_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            disposition: row.disposition,
            hangup_cause: row.hangup_cause,
            duration: row.duration_secs,
            outcome: row.told,
        }
    }
}

impl From<WaitingRow> for Waiting {
    fn from(row: WaitingRow) -> Self {
        Self { reason: row.reason, clears_at: row.clears_at, detail: row.detail }
    }
}
