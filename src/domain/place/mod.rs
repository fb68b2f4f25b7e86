//! Where a number may ring: its country and its candidate time zones.
//!
//! A number is evidence, not truth, so the answer is a set: whoever calls must be welcome in every zone of it. A number that is
//! not valid, or has no geography in a country of many zones that nobody can tell apart (toll-free +1), has none.
//! The table is libphonenumber's; see the NOTICE beside it.

use std::collections::HashMap;
use std::sync::LazyLock;

use rlibphonenumber::PhoneNumber as Parsed;

use crate::domain::phone::PhoneNumber;
use crate::domain::zone;

static ZONES: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    include_str!("prefix_zones.txt")
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(prefix, zones)| (prefix, zones.split('&').filter_map(zone::canonical).collect()))
        .collect()
});

/// What a number tells about the place it rings at.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// ISO 3166, such as `US`; empty: unknown.
    pub country: String,
    /// Sorted by name; empty: unknown.
    pub zones: Vec<&'static str>,
}

impl Place {
    /// By the number alone.
    #[must_use]
    pub fn of(number: &PhoneNumber) -> Self {
        let Ok(parsed) = number.as_str().parse::<Parsed>() else { return Self::default() };
        if !parsed.is_valid() {
            return Self::default();
        }
        let country = parsed.get_region_code().map(|region| region.to_string()).unwrap_or_default();
        Self { country, zones: zones_of(number, &parsed) }
    }

    /// By a zone somebody gave for it; the country still comes from the number.
    #[must_use]
    pub fn in_zone(self, zone: &'static str) -> Self {
        Self { zones: vec![zone], ..self }
    }
}

fn zones_of(number: &PhoneNumber, parsed: &Parsed) -> Vec<&'static str> {
    let digits = number.as_str().trim_start_matches('+');
    let country_code = parsed.country_code.to_string();
    let found = if parsed.is_geographical() {
        (1..=digits.len()).rev().find_map(|length| ZONES.get(digits.get(..length)?))
    } else if country_code == "1" {
        // Twenty countries share +1: their common entry says nothing.
        None
    } else {
        ZONES.get(country_code.as_str())
    };
    let mut zones = found.cloned().unwrap_or_default();
    zones.sort_unstable();
    zones.dedup();
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
