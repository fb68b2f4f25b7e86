//! E.164 numbers (ITU-T E.164: a plus, a country code that does not start with zero, at most 15 digits), in the one form by which they are
//! compared.
//!
//! Reading decides syntax and form: a trunk prefix is left out (`+44 (0)20 …`), as is the 1 that Mexican mobiles had until 2020. Whether a
//! number is assigned is another question, answered by [`crate::domain::place`]: `+15551234567`, the usual sample in documentation, is none
//! and must still be accepted by the simulator.

use std::borrow::Cow;
use std::fmt;

use rlibphonenumber::{NumberLengthType, PhoneNumber as Parsed, PhoneNumberFormat, ValidationError};
use serde::{Deserialize, Serialize};

const DIGITS_MIN: usize = 7;
const DIGITS_MAX: usize = 15;

/// A number in E.164 form, as it is dialed. `Debug` shows the last two digits only, so that it can stand in a log by mistake.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(String);

/// Why a text is no number; `Display` is meant for the person who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("must start with + and the country code, as in +14155550100")]
    NoPlus,
    #[error("may hold digits only, besides spaces, dots, dashes and brackets; character {nth} is {what:?}")]
    NotDigits {
        /// Counted from 1, in what was given.
        nth: usize,
        what: char,
    },
    #[error("must have {DIGITS_MIN} to {DIGITS_MAX} digits after the +")]
    Length,
    #[error("has a country code that starts with 0")]
    ZeroCountry,
}

impl PhoneNumber {
    /// Reads a number as people write it: spaces, dots, dashes and brackets are dropped, and what no dialed number has.
    ///
    /// # Errors
    /// What keeps the text from being a number.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let written = Self::stored(text)?.0;
        Ok(Self(canonical(&written).unwrap_or(written)))
    }

    /// A number that was read before it was kept: its form is not looked for again by the rules of its country.
    ///
    /// # Errors
    /// What keeps the text from being a number.
    pub fn stored(text: &str) -> Result<Self, Error> {
        let between = |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '(' | ')');
        let written: String = text.chars().filter(|c| !between(*c)).collect();
        let digits = written.strip_prefix('+').ok_or(Error::NoPlus)?;
        let is_plus = |nth: usize, c: char| c == '+' && text.chars().take(nth).all(between);
        let wrong = text.chars().enumerate().find(|(nth, c)| !c.is_ascii_digit() && !between(*c) && !is_plus(*nth, *c));
        if let Some((nth, what)) = wrong {
            return Err(Error::NotDigits { nth: nth + 1, what });
        }
        if !(DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) {
            return Err(Error::Length);
        }
        if digits.starts_with('0') {
            return Err(Error::ZeroCountry);
        }
        Ok(Self(written))
    }

    /// As it is dialed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// By what two numbers are the same: what rings one phone has one identity, however it is dialed. Argentine mobiles are dialed with
    /// a 9 from abroad, which lists leave out. The same rule as `identity_of` in SQL.
    #[must_use]
    pub fn identity(&self) -> Cow<'_, str> {
        match self.0.strip_prefix(ARGENTINE_MOBILE).filter(|national| national.len() == 10) {
            Some(national) => Cow::Owned(format!("{ARGENTINA}{national}")),
            None => Cow::Borrowed(&self.0),
        }
    }

    /// Why no network takes it, whoever dials it; none: it may be assigned.
    #[must_use]
    pub fn impossible(&self) -> Option<&'static str> {
        self.parsed().map_or(Some(NO_COUNTRY), |parsed| impossible(&parsed))
    }

    /// Its parts, as far as it has a country code.
    pub(super) fn parsed(&self) -> Option<Parsed> {
        self.0.parse().ok()
    }
}

const NO_COUNTRY: &str = "has a country code that is not assigned";

/// Why no network takes a number of these parts; none: it may be assigned.
pub(super) fn impossible(parsed: &Parsed) -> Option<&'static str> {
    match parsed.is_possible_with_reason() {
        Ok(NumberLengthType::IsPossible) => None,
        Ok(NumberLengthType::IsPossibleLocalOnly) => Some("has no area code: write it as from abroad"),
        Err(ValidationError::TooShort) => Some("has too few digits for its country"),
        Err(ValidationError::TooLong) => Some("has too many digits for its country: write no extension"),
        Err(ValidationError::InvalidLength) => Some("has a number of digits that its country does not use"),
        Err(ValidationError::InvalidCountryCode) => Some(NO_COUNTRY),
    }
}

const ARGENTINA: &str = "+54";
const ARGENTINE_MOBILE: &str = "+549";
/// Mexico has dropped it (2019, in force 2020); networks take it for a while, and lists hold it for longer.
const MEXICAN_MOBILE: &str = "+521";

/// The form in which a number is dialed, where it is not the one given.
fn canonical(written: &str) -> Option<String> {
    if let Some(national) = written.strip_prefix(MEXICAN_MOBILE).filter(|national| national.len() == 10) {
        return Some(format!("+52{national}"));
    }
    let parsed: Parsed = written.parse().ok()?;
    parsed.is_valid().then(|| parsed.format_as(PhoneNumberFormat::E164).into_owned())
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
            ("+1415555CALL", Err(Error::NotDigits { nth: 9, what: 'C' })),
            ("+1415+5550100", Err(Error::NotDigits { nth: 6, what: '+' })),
            ("+44 (0)20 7946 0018", Ok("+442079460018")),
            ("+52 1 55 1234 5678", Ok("+525512345678")),
            ("+54 9 11 1234-5678", Ok("+5491112345678")),
            ("+1234567890", Ok("+1234567890")),
            ("+39 06 1234 5678", Ok("+390612345678")),
            ("+123456", Err(Error::Length)),
            ("+1234567890123456", Err(Error::Length)),
            ("+0123456789", Err(Error::ZeroCountry)),
            ("+١٢٣٤٥٦٧٨٩", Err(Error::NotDigits { nth: 2, what: '١' })),
        ] {
            assert_eq!(
                PhoneNumber::parse(text).as_ref().map(PhoneNumber::as_str),
                expected.as_ref().map(|s| *s),
                "{text}"
            );
        }
    }

    /// What rings one phone is one number.
    #[test]
    fn one_phone_has_one_identity() {
        let identity = |text: &str| PhoneNumber::parse(text).expect(text).identity().into_owned();
        for (one, other) in [
            ("+54 9 11 1234 5678", "+54 11 1234 5678"),
            ("+52 1 55 1234 5678", "+52 55 1234 5678"),
            ("+44 (0)20 7946 0018", "+442079460018"),
            ("+49 (0)151 1234 5678", "+4915112345678"),
        ] {
            assert_eq!(identity(one), identity(other), "{one} {other}");
        }
        assert_ne!(identity("+14155552671"), identity("+14155552672"));
        assert_eq!(identity("+15551234567"), "+15551234567");
    }

    /// What no network takes is told from what may be assigned.
    #[test]
    fn impossible_numbers_say_why() {
        let impossible = |text: &str| PhoneNumber::parse(text).expect(text).impossible();
        assert_eq!(impossible("+14155552671"), None);
        assert_eq!(impossible("+15551234567"), None, "not assigned, but possible");
        assert!(impossible("+1234567890").is_some_and(|why| why.contains("too few")));
        assert!(impossible("+1415555267199").is_some_and(|why| why.contains("too many")));
        assert!(impossible("+999123456789").is_some_and(|why| why.contains("country code")));
    }

    /// A number in a log line does not give itself away.
    #[test]
    fn debug_hides_the_number() {
        let number = PhoneNumber::parse("+14155552671").expect("valid");
        assert_eq!(format!("{number:?}"), "+…71");
    }
}
