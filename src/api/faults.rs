//! What is wrong with a body, all of it at once; and the checks that several bodies share.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::api::error::{Error, FieldError};
use crate::domain::call::OBJECT_BYTES_MAX;
use crate::domain::hours::Span;
use crate::domain::ids::{EXTERNAL_ID_CHARS_MAX, looks_like_ours};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::domain::zone::{self, Zone};
use crate::queue::windows;

/// Scripts may be prompts; longer ones belong into a stored script.
pub const SCRIPT_ID_CHARS_MAX: usize = 20_000;
const NAME_CHARS_MAX: usize = 255;
const SPANS_MAX: usize = 100;
const CLOSED_DATES_MAX: usize = 1000;

/// Collects what is wrong with a body.
#[derive(Debug, Default)]
pub struct Faults(Vec<FieldError>);

impl Faults {
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(FieldError::new(path, message));
    }

    /// The value, or its error noted under `path`.
    pub fn check<T, E: ToString>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error.to_string())).ok()
    }

    /// # Errors
    /// 400 with all faults, if there are any.
    pub fn none(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid(self.0)) }
    }

    /// A number that may be dialed; `possible`: one that a network takes.
    pub fn checked_number(&mut self, path: &str, text: &str, possible: bool) -> Option<PhoneNumber> {
        let number = self.check(path, PhoneNumber::parse(text))?;
        if let Some(why) = number.impossible().filter(|_| possible) {
            self.add(path, format!("{why}; an example is +14155550100"));
        }
        Some(number)
    }

    /// A name or another short text.
    pub fn check_name(&mut self, path: &str, text: &str) {
        if text.trim().is_empty() || text.chars().count() > NAME_CHARS_MAX {
            self.add(path, format!("must have 1 to {NAME_CHARS_MAX} characters"));
        }
    }

    /// A script id of a sensible length.
    pub fn check_script_id(&mut self, path: &str, text: &str) {
        if text.trim().is_empty() {
            self.add(path, "must not be empty");
        } else if text.chars().count() > SCRIPT_ID_CHARS_MAX {
            self.add(path, format!("may have at most {SCRIPT_ID_CHARS_MAX} characters"));
        }
    }

    /// An object that is not too large to carry about.
    pub fn checked_object(&mut self, path: &str, given: Option<Box<RawValue>>) -> RawJson {
        let object = self.checked_json(path, given, OBJECT_BYTES_MAX).unwrap_or_default();
        if !object.is_object() {
            self.add(path, "must be an object");
        }
        object
    }

    /// JSON of any shape, as it may be stored and read back; none: it was not given, or its faults are noted.
    pub fn checked_json(&mut self, path: &str, given: Option<Box<RawValue>>, bytes_max: usize) -> Option<RawJson> {
        let given = given?;
        if given.get().len() > bytes_max {
            self.add(path, format!("may have at most {bytes_max} bytes as JSON"));
            return None;
        }
        match RawJson::checked(given) {
            Ok(json) if json.written_len() > bytes_max => {
                self.add(path, format!("may have at most {bytes_max} bytes as JSON with its numbers written out"));
                None
            }
            Ok(json) => Some(json),
            Err((inner, fault)) if inner.is_empty() => self.check(path, Err(fault)),
            Err((inner, fault)) => self.check(&format!("{path}.{inner}"), Err(fault)),
        }
    }

    /// The client's own id.
    pub fn check_external_id(&mut self, text: &str) {
        if text.trim().is_empty() || text.chars().count() > EXTERNAL_ID_CHARS_MAX {
            self.add("externalId", format!("must have 1 to {EXTERNAL_ID_CHARS_MAX} characters"));
        } else if looks_like_ours(text) {
            self.add("externalId", "must not be a UUID: those are ours");
        }
    }

    /// A whole number within bounds.
    pub fn check_range(&mut self, path: &str, given: i64, bounds: std::ops::RangeInclusive<i64>) -> i32 {
        if !bounds.contains(&given) {
            self.add(path, format!("must be {} to {}", bounds.start(), bounds.end()));
        }
        i32::try_from(given).unwrap_or_default()
    }

    /// The canonical name of a time zone.
    pub fn checked_zone(&mut self, path: &str, name: &str) -> String {
        zone::canonical(name).map(str::to_owned).unwrap_or_else(|| {
            self.add(path, "is not an IANA time zone, such as America/New_York");
            String::new()
        })
    }

    /// Hours that name at least one day each.
    pub fn check_hours(&mut self, hours: &[Span]) {
        if hours.is_empty() || hours.len() > SPANS_MAX {
            self.add("hours", format!("must have 1 to {SPANS_MAX} entries"));
        }
        for (nth, span) in hours.iter().enumerate() {
            if span.days.is_empty() {
                self.add(&format!("hours.{nth}.days"), "must name at least one day");
            }
        }
    }

    /// Dates, each once, in order.
    pub fn checked_dates(&mut self, path: &str, dates: Vec<NaiveDate>) -> Vec<NaiveDate> {
        let dates: BTreeSet<NaiveDate> = dates.into_iter().collect();
        if dates.len() > CLOSED_DATES_MAX {
            self.add(path, format!("may have at most {CLOSED_DATES_MAX} dates"));
        }
        if dates.iter().any(|date| !(1970..=2999).contains(&chrono::Datelike::year(date))) {
            self.add(path, "must lie in the years 1970 to 2999");
        }
        dates.into_iter().collect()
    }

    /// Hours that open at some time in the coming year.
    pub fn check_opens(&mut self, zone: &str, hours: &[Span], closed_dates: &[NaiveDate]) {
        if let Some(zone) = Zone::named(zone).filter(|_| self.0.is_empty())
            && !windows::ever_opens(&zone, hours, closed_dates)
        {
            self.add("hours", "never open in the coming year");
        }
    }
}

/// A field that may be left out (kept), null (emptied) or given.
///
/// # Errors
/// The field's own.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(input).map(Some)
}
