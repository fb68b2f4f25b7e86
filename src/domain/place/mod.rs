//! Where a number may ring, and what kind of number it is: its country, its candidate time zones, its destination.
//!
//! A number is evidence, not truth, so the answer is a set: whoever calls must be welcome in every zone of it. A number that is
//! not valid, or has no geography in a country of many zones that nobody can tell apart (toll-free +1), has none.
//! The table is libphonenumber's; see the NOTICE beside it. Where it names a zone for a whole area code and others for exchanges within
//! it, what it does not name may lie in any of them: exchanges are opened, and it lags behind.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rlibphonenumber::{PhoneNumber as Parsed, PhoneNumberType};

use crate::domain::phone::{self, PhoneNumber};
use crate::domain::zone;

static ZONES: LazyLock<BTreeMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    include_str!("prefix_zones.txt")
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(prefix, zones)| (prefix, zones.split('&').filter_map(zone::canonical).collect()))
        .collect()
});

/// Area codes laid over others: their exchanges lie wherever those of the older code do, and the table knows none of them.
static OVERLAYS: LazyLock<BTreeMap<&'static str, &'static str>> =
    LazyLock::new(|| include_str!("overlays.txt").lines().filter_map(|line| line.split_once(' ')).collect());

/// Country codes of satellites and of networks without a country (ITU-T E.164, annex D).
const SATELLITE: [u16; 4] = [870, 881, 882, 883];

/// What kind of destination a number is, where that decides whether it may be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Land lines, mobiles, toll-free numbers and whatever else costs what such calls cost.
    #[default]
    Ordinary,
    Premium,
    SharedCost,
    Satellite,
    /// Possible, and given to nobody: what answers is a mistake or a trap.
    Unassigned,
    /// No network takes it.
    Impossible,
}

impl Destination {
    pub const ALL: [Self; 6] =
        [Self::Ordinary, Self::Premium, Self::SharedCost, Self::Satellite, Self::Unassigned, Self::Impossible];

    /// Those that an admin may let a user call.
    pub const ADMISSIBLE: [Self; 4] = [Self::Premium, Self::SharedCost, Self::Satellite, Self::Unassigned];

    /// The stable word for it, in SQL and JSON alike.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "ORDINARY",
            Self::Premium => "PREMIUM",
            Self::SharedCost => "SHARED_COST",
            Self::Satellite => "SATELLITE",
            Self::Unassigned => "UNASSIGNED",
            Self::Impossible => "IMPOSSIBLE",
        }
    }

    /// What a word means; none: nothing.
    #[must_use]
    pub fn of_str(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|destination| destination.as_str() == word)
    }

    fn of(parsed: &Parsed) -> Self {
        match parsed.get_type() {
            _ if u16::try_from(parsed.country_code).is_ok_and(|code| SATELLITE.contains(&code)) => Self::Satellite,
            PhoneNumberType::PremiumRate => Self::Premium,
            PhoneNumberType::SharedCost => Self::SharedCost,
            PhoneNumberType::Unknown => Self::Unassigned,
            _ => Self::Ordinary,
        }
    }
}

/// Whether a text has the form of an ISO 3166 code.
#[must_use]
pub fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// What a number tells about the place it rings at.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// ISO 3166, such as `US`; empty: unknown, or none.
    pub country: String,
    /// Sorted by name; empty: unknown.
    pub zones: Vec<&'static str>,
    pub destination: Destination,
}

impl Place {
    /// By the number alone.
    #[must_use]
    pub fn of(number: &PhoneNumber) -> Self {
        let Some(parsed) = number.parsed().filter(|parsed| phone::impossible(parsed).is_none()) else {
            return Self { destination: Destination::Impossible, ..Self::default() };
        };
        let destination = Destination::of(&parsed);
        if !parsed.is_valid() {
            return Self { destination, ..Self::default() };
        }
        let country = parsed.get_region_code().map(|region| region.to_string()).unwrap_or_default();
        Self { country, zones: zones_of(number, &parsed), destination }
    }

    /// With a zone somebody gave for it: among the candidates it tells which; beside them it is one more in which the call must be
    /// welcome, since people move and lists are wrong.
    #[must_use]
    pub fn in_zone(mut self, zone: &'static str) -> Self {
        if self.zones.contains(&zone) {
            self.zones = vec![zone];
        } else {
            self.zones.push(zone);
            self.zones.sort_unstable();
        }
        self
    }
}

fn zones_of(number: &PhoneNumber, parsed: &Parsed) -> Vec<&'static str> {
    let digits = number.as_str().trim_start_matches('+');
    let country_code = parsed.country_code.to_string();
    let mut zones = if parsed.is_geographical() {
        zones_below(digits)
    } else if country_code == "1" {
        // Twenty countries share +1: their common entry says nothing.
        Vec::new()
    } else {
        ZONES.get(country_code.as_str()).cloned().unwrap_or_default()
    };
    zones.sort_unstable();
    zones.dedup();
    zones
}

/// The zones of the longest entry a number begins with, of all longer ones that begin with that entry, and, for an area code laid over
/// another, of those of the other.
fn zones_below(digits: &str) -> Vec<&'static str> {
    let longest = (1..=digits.len()).rev().filter_map(|length| digits.get(..length)).find(|p| ZONES.contains_key(p));
    let Some(prefix) = longest else { return Vec::new() };
    let under = |prefix: &str| {
        let from = ZONES.range(prefix..);
        let all: Vec<&'static str> = from
            .take_while(|(longer, _)| longer.starts_with(prefix))
            .flat_map(|(_, zones)| zones.iter().copied())
            .collect();
        all
    };
    let mut zones = under(prefix);
    if let Some(older) = OVERLAYS.get(prefix) {
        zones.extend(under(older));
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(number: &str) -> Vec<&'static str> {
        Place::of(&PhoneNumber::parse(number).expect("a number")).zones
    }

    /// Land lines have their zone, nation-wide mobiles all of their country's, and what cannot be told has none.
    #[test]
    fn numbers_have_candidate_zones() {
        assert_eq!(zones("+12125550100"), ["America/New_York"]);
        assert_eq!(zones("+966501234567"), ["Asia/Riyadh"]);
        assert_eq!(zones("+61412345678").len(), 8, "an Australian mobile may be anywhere in Australia");
        assert_eq!(zones("+79161234567").len(), 16, "and a Russian one anywhere in Russia");
        assert_eq!(zones("+18505550142"), ["America/Chicago", "America/New_York"], "no exchange the table knows");
        assert_eq!(zones("+18502005550"), ["America/Chicago"], "an exchange it knows");
        assert_eq!(zones("+14482345678"), ["America/Chicago", "America/New_York"], "laid over 850");
        assert_eq!(zones("+18005550199"), Vec::<&str>::new(), "toll-free");
        assert_eq!(zones("+1234567890"), Vec::<&str>::new(), "not a possible number");
    }

    #[test]
    fn countries_are_told() {
        let country = |number: &str| Place::of(&PhoneNumber::parse(number).expect("a number")).country;
        assert_eq!(country("+12125550100"), "US");
        assert_eq!(country("+971501234567"), "AE");
        assert_eq!(country("+15551234567"), "");
    }

    /// A zone that was given narrows what the number tells, or comes on top of it; it never takes its place.
    #[test]
    fn a_given_zone_narrows_or_adds() {
        let place = |number: &str, zone: &'static str| {
            Place::of(&PhoneNumber::parse(number).expect("a number")).in_zone(zone).zones
        };
        assert_eq!(place("+81312345678", "Europe/London"), ["Asia/Tokyo", "Europe/London"]);
        assert_eq!(place("+18505550142", "America/Chicago"), ["America/Chicago"]);
        assert_eq!(place("+18005550199", "America/Denver"), ["America/Denver"], "nothing else is known");
    }

    /// What costs more, rings in orbit, or rings nobody is told from the rest.
    #[test]
    fn destinations_are_told() {
        let destination = |number: &str| Place::of(&PhoneNumber::parse(number).expect("a number")).destination;
        for (number, expected) in [
            ("+14155550100", Destination::Ordinary),
            ("+18005550199", Destination::Ordinary),
            ("+19005550100", Destination::Premium),
            ("+449098790000", Destination::Premium),
            ("+881612345678", Destination::Satellite),
            ("+870773123456", Destination::Satellite),
            ("+882161234567", Destination::Satellite),
            ("+15551234567", Destination::Unassigned),
            ("+1234567890", Destination::Impossible),
            ("+1415555267199", Destination::Impossible),
            ("+999123456789", Destination::Impossible),
        ] {
            assert_eq!(destination(number), expected, "{number}");
        }
    }

    /// Every area code laid over another has a line, and both are in the table.
    #[test]
    fn overlays_are_known() {
        let lines = include_str!("overlays.txt").lines().count();
        assert_eq!(OVERLAYS.len(), lines);
        for (newer, older) in OVERLAYS.iter() {
            assert!(ZONES.contains_key(newer) && ZONES.contains_key(older), "{newer} {older}");
        }
    }

    /// Every zone of the table is one we know.
    #[test]
    fn the_table_is_whole() {
        let lines = include_str!("prefix_zones.txt").lines().count();
        assert_eq!(ZONES.len(), lines);
        let named: usize = ZONES.values().map(Vec::len).sum();
        let written: usize = include_str!("prefix_zones.txt").lines().map(|line| line.split('&').count()).sum();
        assert_eq!(named, written);
    }
}
