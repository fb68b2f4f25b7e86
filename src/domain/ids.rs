//! Ids that cannot be mixed up. All are UUIDv7 made by the service: they sort by time, and no sequence decides anything.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id!(
    /// A call: the job, one row from creation to its end.
    CallId
);
id!(
    /// An attempt: one time we dialed. `conversationId` on the API.
    AttemptId
);
id!(
    /// A user: a tenant.
    UserId
);
id!(
    /// A lane: calls that may be dialed under the same rules.
    LaneId
);
id!(
    /// A campaign.
    CampaignId
);
id!(
    /// A schedule: when campaigns may call.
    ScheduleId
);
id!(
    /// What an agent is told.
    ScriptId
);
id!(
    /// A person a user wants called.
    ProspectId
);
id!(
    /// What a subscription buys.
    PlanId
);
id!(
    /// An uploaded list of numbers.
    UploadId
);
id!(
    /// A running process; new at every start.
    InstanceId
);

/// The built-in user that owns the calls of nobody in particular.
pub const OPERATOR: UserId = UserId(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));

impl UserId {
    /// The lane of this user's single calls: it carries the user's own id (migration 0002).
    #[must_use]
    pub fn own_lane(self) -> LaneId {
        LaneId(self.0)
    }
}

/// An external id, the client's own, has at most so many characters.
pub const EXTERNAL_ID_CHARS_MAX: usize = 255;
/// A provider's id of a call is kept up to this length: an index holds it.
pub const PROVIDER_ID_BYTES_MAX: usize = 500;

/// Whether a text looks like one of our ids, which no external id may.
#[must_use]
pub fn looks_like_ours(text: &str) -> bool {
    text.parse::<Uuid>().is_ok()
}

/// A new time-ordered id.
#[must_use]
pub fn new_id() -> Uuid {
    replay::next().unwrap_or_else(Uuid::now_v7)
}

/// Ids that are the same in every run, for one thread: a simulation that is replayed must come to the same order. In release builds
/// there are none.
pub mod replay {
    use uuid::Uuid;

    #[cfg(debug_assertions)]
    std::thread_local! {
        /// The millisecond the ids are of, and how many there were.
        static AT: std::cell::Cell<Option<(u64, u64)>> = const { std::cell::Cell::new(None) };
    }

    /// From now on ids of this thread are of this moment, counted from the first one on; none: as ever.
    #[cfg(debug_assertions)]
    pub fn at(millis: Option<u64>) {
        AT.set(millis.map(|millis| (millis, AT.get().map_or(0, |(_, count)| count))));
    }

    #[cfg(debug_assertions)]
    pub(super) fn next() -> Option<Uuid> {
        let (millis, count) = AT.get()?;
        AT.set(Some((millis, count + 1)));
        let mut random = [0; 10];
        for (byte, of_count) in random.iter_mut().skip(2).zip(count.to_be_bytes()) {
            *byte = of_count;
        }
        Some(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    #[cfg(not(debug_assertions))]
    pub(super) fn next() -> Option<Uuid> {
        None
    }
}

/// The `nth` id grown from `seed`: the same for the same pair, so that work repeated after a crash creates the same rows.
/// Keeps the time of the seed, so the ids sort where they belong.
#[must_use]
pub fn grown_from(seed: Uuid, nth: usize) -> Uuid {
    if nth == 0 {
        return seed;
    }
    let spread = splitmix(u64::try_from(nth).unwrap_or(u64::MAX));
    let mut bytes = *seed.as_bytes();
    for (byte, mask) in bytes[8..].iter_mut().zip(spread.to_be_bytes()) {
        *byte ^= mask;
    }
    // Bits of version and variant stay those of the seed.
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// A well-mixed 64-bit number from a small one (SplitMix64, Steele et al. 2014).
#[must_use]
pub fn splitmix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Ids grown from one seed are distinct, keep version and time, and do not change from run to run.
    #[test]
    fn grown_ids_are_distinct_and_stable() {
        let seed = new_id();
        let grown: HashSet<Uuid> = (0..10_000).map(|n| grown_from(seed, n)).collect();
        assert_eq!(grown.len(), 10_000);
        for id in &grown {
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.as_bytes()[..6], seed.as_bytes()[..6]);
        }
        assert_eq!(grown_from(seed, 7), grown_from(seed, 7));
    }
}
