//! Time zones. chrono-tz says which names exist; it never decides an offset, since its data is of IANA 2025b and wrong for a
//! dozen zones by now. Offsets come from the data compiled in with jiff, so that every machine decides alike.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono_tz::Tz;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

static DATA: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Old names of zones (made by `.ci/zone-links`): a rule for Asia/Kolkata is a rule for Asia/Calcutta too.
static LINKS: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| include_str!("zone_links.txt").lines().filter_map(|line| line.split_once(' ')).collect());

/// The IANA name a zone has now, or nothing when there is no such zone. Zones of different places keep their own names.
#[must_use]
pub fn canonical(name: &str) -> Option<&'static str> {
    let known = name.parse::<Tz>().ok()?.name();
    Some(LINKS.get(known).copied().unwrap_or(known))
}

/// A zone that can tell local time.
#[derive(Clone, Debug)]
pub struct Zone {
    name: &'static str,
    data: TimeZone,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Zone {
    /// The zone of this IANA name; none: there is none, or no data of it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = canonical(name)?;
        Some(Self { name, data: DATA.get(name).ok()? })
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Seconds that local time is ahead of UTC at an instant (seconds since 1970).
    #[must_use]
    pub fn offset_at(&self, at: i64) -> i64 {
        Timestamp::from_second(at).map_or(0, |at| i64::from(self.data.to_offset(at).seconds()))
    }

    /// The instants in `from..to` at which the offset changes, in order.
    #[must_use]
    pub fn changes(&self, from: i64, to: i64) -> Vec<i64> {
        let Ok(start) = Timestamp::from_second(from) else { return Vec::new() };
        self.data.following(start).map(|change| change.timestamp().as_second()).take_while(|at| *at < to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Zone, canonical};

    /// Real zones are known, offsets and abbreviations alone are not places.
    #[test]
    fn knows_iana_names() {
        assert_eq!(canonical("America/New_York"), Some("America/New_York"));
        assert_eq!(canonical("Mars/Olympus"), None);
        assert_eq!(canonical(""), None);
    }

    /// The data is of this year: British Columbia stays on UTC-7 in the winter of 2026, which chrono-tz 0.10.4 does not know.
    #[test]
    fn the_data_is_of_this_year() {
        let december = 1_796_083_200; // 2026-12-01T00:00:00Z
        let zone = Zone::named("America/Vancouver").expect("a zone");
        assert_eq!(zone.offset_at(december), -7 * 3600);
    }

    /// Every name that is accepted has data.
    #[test]
    fn every_name_has_data() {
        for zone in chrono_tz::TZ_VARIANTS {
            assert!(Zone::named(zone.name()).is_some(), "{}", zone.name());
        }
    }
}
