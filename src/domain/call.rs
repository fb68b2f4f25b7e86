//! States of calls and attempts, and the words the API uses for them.

use serde::{Deserialize, Serialize};

/// Where a call is. Only `Waiting` calls can be claimed; the last four are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "call_state", rename_all = "lowercase")]
pub enum CallState {
    /// In its lane.
    Waiting,
    /// Due, but its number is on another call.
    Parked,
    /// Has an open attempt.
    Live,
    Completed,
    Failed,
    Expired,
    Canceled,
}

impl CallState {
    /// The name in SQL.
    #[must_use]
    pub fn as_sql(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Live => "live",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Canceled => "canceled",
        }
    }

    /// The word on the API; `public_status` in SQL says the same (tests/it/queue.rs compares them).
    #[must_use]
    pub fn status(self) -> CallStatus {
        match self {
            Self::Waiting | Self::Parked => CallStatus::Pending,
            Self::Live => CallStatus::InProgress,
            Self::Completed => CallStatus::Completed,
            Self::Failed => CallStatus::Failed,
            Self::Expired => CallStatus::Expired,
            Self::Canceled => CallStatus::Canceled,
        }
    }
}

/// A call's status as users know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CallStatus {
    Pending,
    InProgress,
    Completed,
    Failed,
    Expired,
    Canceled,
}

impl CallStatus {
    /// Every status, in the order a call meets them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::InProgress, Self::Completed, Self::Failed, Self::Expired, Self::Canceled];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Canceled => "CANCELED",
        }
    }
}

/// Where an attempt is. All but `Ended` hold a slot and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[sqlx(type_name = "attempt_state", rename_all = "lowercase")]
pub enum AttemptState {
    /// Committed; the provider is being asked.
    Dialing,
    /// Nobody knows whether the provider took it.
    Unknown,
    /// The provider has it.
    Accepted,
    Ended,
}

impl AttemptState {
    /// The name in SQL.
    #[must_use]
    pub fn as_sql(self) -> &'static str {
        match self {
            Self::Dialing => "dialing",
            Self::Unknown => "unknown",
            Self::Accepted => "accepted",
            Self::Ended => "ended",
        }
    }
}

/// What was asked for a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

/// Metadata and variables of a call, each, have at most so many bytes as JSON.
pub const OBJECT_BYTES_MAX: usize = 32 * 1024;

/// Order within a lane: the closed set of ranks (DESIGN: 0 promised, 1 high, 2 retry, 3 normal, 4 low).
pub mod rank {
    pub const PROMISED: i16 = 0;
    pub const HIGH: i16 = 1;
    pub const RETRY: i16 = 2;
    pub const NORMAL: i16 = 3;
    pub const LOW: i16 = 4;

    /// The rank of another try: a normal call goes before new ones, a high or low one stays what it is.
    #[must_use]
    pub fn of_retry(priority: i16) -> i16 {
        if priority == NORMAL { RETRY } else { priority }
    }

    /// Ranks that are read before the ring of lanes.
    #[must_use]
    pub fn is_urgent(rank: i16) -> bool {
        rank < RETRY
    }
}

impl Priority {
    /// The rank a new call of this priority gets.
    #[must_use]
    pub fn rank(self) -> i16 {
        match self {
            Self::High => rank::HIGH,
            Self::Normal => rank::NORMAL,
            Self::Low => rank::LOW,
        }
    }

    /// The priority behind a stored rank of 1, 3 or 4.
    #[must_use]
    pub fn of_rank(stored: i16) -> Self {
        match stored {
            rank::HIGH => Self::High,
            rank::LOW => Self::Low,
            _ => Self::Normal,
        }
    }
}
