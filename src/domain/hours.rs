//! Hours of the week as people write them, in local wall time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `{"days":["mon","tue"],"opens":"09:00","closes":"17:00"}`: `closes` is exclusive; at or before `opens` it is of the next day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Span {
    #[schema(value_type = Vec<Day>, min_items = 1, max_items = 7)]
    pub days: BTreeSet<Day>,
    #[schema(value_type = String, example = "09:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub opens: WallTime,
    #[schema(value_type = String, example = "17:00", pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub closes: WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// The weekday of a day counted from 1970-01-01, a Thursday.
    #[must_use]
    pub fn of_epoch(day: i64) -> Self {
        match (day + 3).rem_euclid(7) {
            0 => Self::Mon,
            1 => Self::Tue,
            2 => Self::Wed,
            3 => Self::Thu,
            4 => Self::Fri,
            5 => Self::Sat,
            _ => Self::Sun,
        }
    }
}

/// Seconds since local midnight, whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i64);

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let parts = text.split_once(':').filter(|(h, m)| {
            h.len() == 2 && m.len() == 2 && h.bytes().chain(m.bytes()).all(|byte| byte.is_ascii_digit())
        });
        let time = parts.and_then(|(h, m)| Some((h.parse::<i64>().ok()?, m.parse::<i64>().ok()?)));
        time.filter(|(hours, minutes)| *hours < 24 && *minutes < 60)
            .map(|(hours, minutes)| Self(hours * 3600 + minutes * 60))
            .ok_or_else(|| serde::de::Error::custom("must be a time of day, such as 09:00"))
    }
}

impl Serialize for WallTime {
    fn serialize<S: serde::Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(&format!("{:02}:{:02}", self.0 / 3600, self.0 / 60 % 60))
    }
}

impl Span {
    /// From its opening to its closing, in seconds since the midnight of its day.
    #[must_use]
    pub fn reach(&self) -> (i64, i64) {
        let overnight = if self.closes <= self.opens { 86_400 } else { 0 };
        (self.opens.0, self.closes.0 + overnight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read is written the same; what is no time of day is refused.
    #[test]
    fn spans_are_read_and_written() {
        let text = r#"{"days":["mon","sun"],"opens":"22:30","closes":"06:00"}"#;
        let span: Span = serde_json::from_str(text).expect("a span");
        assert_eq!(span.reach(), (81_000, 108_000));
        assert_eq!(serde_json::to_string(&span).expect("json"), text);
        for bad in ["24:00", "9:00", "09:60", "+9:00", "", "noon"] {
            let text = format!(r#"{{"days":["mon"],"opens":"{bad}","closes":"06:00"}}"#);
            assert!(serde_json::from_str::<Span>(&text).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_are_counted_from_a_thursday() {
        assert_eq!(Day::of_epoch(0), Day::Thu);
        assert_eq!(Day::of_epoch(-1), Day::Wed);
        assert_eq!(Day::of_epoch(20_778), Day::Sat); // 2026-11-21
    }
}
