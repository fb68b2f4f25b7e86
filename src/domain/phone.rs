//! E.164 numbers (ITU-T E.164: a plus, a country code that does not start with zero, at most 15 digits).
//!
//! Decides syntax only. Whether a number is assigned is another question: `+15551234567`, the usual sample in
//! documentation, is none and must still be accepted by the simulator.

use std::fmt;

use serde::{Deserialize, Serialize};

const DIGITS_MIN: usize = 7;
const DIGITS_MAX: usize = 15;

/// A number in E.164 form. `Debug` shows the last two digits only, so that it can stand in a log by mistake.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(String);

/// Why a text is no number; `Display` is meant for the person who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("must start with + and the country code, as in +14155550100")]
    NoPlus,
    #[error("may hold digits only, besides spaces, dots, dashes and brackets")]
    NotDigits,
    #[error("must have {DIGITS_MIN} to {DIGITS_MAX} digits after the +")]
    Length,
    #[error("has a country code that starts with 0")]
    ZeroCountry,
}

impl PhoneNumber {
    /// Reads a number as people write it: spaces, dots, dashes and brackets are dropped.
    ///
    /// # Errors
    /// What keeps the text from being a number.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let written: String =
            text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '.' | '(' | ')')).collect();
        let digits = written.strip_prefix('+').ok_or(Error::NoPlus)?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::NotDigits);
        }
        if !(DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) {
            return Err(Error::Length);
        }
        if digits.starts_with('0') {
            return Err(Error::ZeroCountry);
        }
        Ok(Self(written))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = self.0.get(self.0.len().saturating_sub(2)..).unwrap_or_default();
        write!(f, "+…{tail}")
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as people write them are read; what is none is refused with its reason.
    #[test]
    fn reads_numbers_and_refuses_the_rest() {
        for (text, expected) in [
            ("+966501234567", Ok("+966501234567")),
            ("+1 (415) 555-2671", Ok("+14155552671")),
            ("+44.20.7946.0018", Ok("+442079460018")),
            ("14155552671", Err(Error::NoPlus)),
            ("", Err(Error::NoPlus)),
            ("+1415555CALL", Err(Error::NotDigits)),
            ("+123456", Err(Error::Length)),
            ("+1234567890123456", Err(Error::Length)),
            ("+0123456789", Err(Error::ZeroCountry)),
            ("+١٢٣٤٥٦٧٨٩", Err(Error::NotDigits)),
        ] {
            assert_eq!(
                PhoneNumber::parse(text).as_ref().map(PhoneNumber::as_str),
                expected.as_ref().map(|s| *s),
                "{text}"
            );
        }
    }

    /// A number in a log line does not give itself away.
    #[test]
    fn debug_hides_the_number() {
        let number = PhoneNumber::parse("+14155552671").expect("valid");
        assert_eq!(format!("{number:?}"), "+…71");
    }
}
