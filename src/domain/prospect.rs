//! How a prospect stands, as a person or a list says it; SCHEDULED and IN_CALL follow from its call.

use serde::Deserialize;
use utoipa::ToSchema;

/// What may be said of a prospect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Wish {
    Initial,
    Rescheduled,
    Booked,
    NotInterested,
    DoNotCall,
    Failed,
}

impl Wish {
    const ALL: [Self; 6] =
        [Self::Initial, Self::Rescheduled, Self::Booked, Self::NotInterested, Self::DoNotCall, Self::Failed];

    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "INITIAL",
            Self::Rescheduled => "RESCHEDULED",
            Self::Booked => "BOOKED",
            Self::NotInterested => "NOT_INTERESTED",
            Self::DoNotCall => "DO_NOT_CALL",
            Self::Failed => "FAILED",
        }
    }

    /// What a word means; none: nothing.
    #[must_use]
    pub fn of_str(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wish| wish.as_str() == word)
    }

    /// How somebody stands of whom this is said, with a promised time or without one; none: a promised time goes with RESCHEDULED only.
    #[must_use]
    pub fn with(said: Option<Self>, promised: bool) -> Option<Self> {
        match said {
            None if promised => Some(Self::Rescheduled),
            None => Some(Self::Initial),
            Some(said) => (said == Self::Rescheduled || !promised).then_some(said),
        }
    }
}
