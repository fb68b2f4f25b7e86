//! Names of time zones. chrono-tz says which names exist; it never decides an offset, since its data is of IANA 2025b
//! and wrong for a dozen zones by now.

use chrono_tz::Tz;

/// The IANA name in its canonical spelling, or nothing when there is no such zone.
#[must_use]
pub fn canonical(name: &str) -> Option<&'static str> {
    name.parse::<Tz>().ok().map(|zone| zone.name())
}

#[cfg(test)]
mod tests {
    /// Real zones are known, offsets and abbreviations alone are not places.
    #[test]
    fn knows_iana_names() {
        assert_eq!(super::canonical("America/New_York"), Some("America/New_York"));
        assert_eq!(super::canonical("Mars/Olympus"), None);
        assert_eq!(super::canonical(""), None);
    }
}
