//! A call as clients send it, parsed into one that cannot be wrong; every field at fault is named at once.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::error::Error;
use crate::api::faults::Faults;
use crate::domain::call::Priority;
use crate::domain::ids::{CallId, UserId};
use crate::domain::phone::PhoneNumber;
use crate::queue::NewCall;

const ATTEMPTS_MAX: i64 = 100;
/// Times further away than this are mistakes.
const YEARS_AHEAD_MAX: i64 = 5;

/// `POST /calls`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallInput {
    /// E.164; spaces, dots, dashes and brackets are dropped.
    #[schema(example = "+966501234567")]
    pub to: String,
    #[schema(example = "welcomeFlow", min_length = 1, max_length = 20000)]
    pub script_id: String,
    /// Given back as it is, every digit of a number too, and passed to the provider; only the order of keys is the database's. At most
    /// 32 KiB, nested 32 deep, numbers of 64 digits; a key twice is an error.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// Values for the script. At most 32 KiB.
    #[schema(value_type = Option<Object>)]
    pub variables: Option<Box<RawValue>>,
    /// Whose call it is, by id or external id; the operator's when an admin does not say.
    pub user_id: Option<String>,
    /// Your own id, unique for the user; must not look like a UUID.
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    pub priority: Option<Priority>,
    /// Not before; now when not given.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// Not after.
    pub expires_at: Option<DateTime<Utc>>,
    /// Dials in all; 3 unless the settings say otherwise.
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<i64>,
    /// The callee's zone, by its IANA name.
    #[schema(example = "America/New_York")]
    pub time_zone: Option<String>,
    /// What to do when the user already has a waiting or live call to the number.
    pub on_duplicate: Option<OnDuplicate>,
    /// Dial at any hour; needs an admin key and is logged.
    pub ignore_window: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDuplicate {
    /// Let it wait behind the other (the default).
    Queue,
    /// Answer 409.
    Reject,
}

impl CallInput {
    /// The call this asks for, for a known user.
    ///
    /// # Errors
    /// 400 with every field at fault.
    pub fn read(self, id: CallId, user: UserId, attempts_default: i16, now: DateTime<Utc>) -> Result<NewCall, Error> {
        let mut faults = Faults::default();
        let phone = faults.check("to", PhoneNumber::parse(&self.to));
        faults.check_script_id("scriptId", &self.script_id);
        let metadata = faults.checked_object("metadata", self.metadata);
        let variables = faults.checked_object("variables", self.variables);
        if let Some(external_id) = &self.external_id {
            faults.check_external_id(external_id);
        }
        let dials_max = match self.max_attempts {
            None => attempts_default,
            Some(given) => match i16::try_from(given).ok().filter(|_| (1..=ATTEMPTS_MAX).contains(&given)) {
                Some(attempts) => attempts,
                None => {
                    faults.add("maxAttempts", format!("must be 1 to {ATTEMPTS_MAX}"));
                    attempts_default
                }
            },
        };
        let time_zone = self.time_zone.map(|name| faults.checked_zone("timeZone", &name));
        check_times(&mut faults, self.scheduled_at, self.expires_at, now);
        let priority = self.priority.unwrap_or_default().rank();
        faults.none()?;
        let phone = phone.ok_or_else(|| Error::invalid_field("to", "is needed"))?;
        Ok(NewCall {
            id,
            user_id: user,
            lane_id: user.own_lane(),
            campaign_id: None,
            rank: priority,
            priority,
            due_at: self.scheduled_at,
            expires_at: self.expires_at,
            phone,
            script_id: self.script_id,
            metadata,
            variables,
            external_id: self.external_id,
            time_zone,
            ignore_window: self.ignore_window.unwrap_or_default(),
            prospect_id: None,
            dials_max,
            reject_duplicate: self.on_duplicate == Some(OnDuplicate::Reject),
        })
    }
}

/// Times that make sense together and with the present.
pub fn check_times(
    faults: &mut Faults,
    scheduled_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) {
    let latest = now + TimeDelta::days(365 * YEARS_AHEAD_MAX);
    let too_far = format!("must be within {YEARS_AHEAD_MAX} years");
    if let Some(at) = scheduled_at {
        if at < now - TimeDelta::days(1) {
            faults.add("scheduledAt", "must not lie more than a day in the past");
        } else if at > latest {
            faults.add("scheduledAt", too_far.clone());
        }
    }
    if let Some(at) = expires_at {
        if at <= now {
            faults.add("expiresAt", "must lie in the future");
        } else if at > latest {
            faults.add("expiresAt", too_far);
        } else if scheduled_at.is_some_and(|scheduled| at <= scheduled) {
            faults.add("expiresAt", "must be after scheduledAt");
        }
    }
}
