//! JSON that somebody else wrote: kept, stored and given back as text.
//!
//! Owns the one rule of what may come in (depth, keys, numbers, characters) and a type that is never decoded on its way through the
//! queue, so that one odd value cannot stop whoever carries it. The SQL function `json_fault` states the same rule for statements
//! that come from outside (migration 0011). **Invariant:** what [`RawJson::parse`] lets in, Postgres can store and everybody can read
//! back; reading what is stored never fails.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Objects and lists may stand in one another so often.
pub const DEPTH_MAX: usize = 32;
/// A number has at most so many digits before the point, written out; and at most so many characters.
const NUMBER_EXPONENT_MAX: u32 = 64;
const NUMBER_CHARS_MAX: usize = 128;

/// A JSON value as text.
#[derive(Clone)]
pub struct RawJson(Box<RawValue>);

/// The fields of an object, each as text.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// Why a JSON value is not taken; `Display` is meant for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("is not JSON: {0}")]
    NotJson(String),
    #[error("must not hold NUL characters")]
    Nul,
    #[error("may be nested {DEPTH_MAX} deep at most")]
    TooDeep,
    #[error("has the key {0:?} twice")]
    DuplicateKey(String),
    #[error("holds a number of more than {NUMBER_EXPONENT_MAX} digits before or behind the point")]
    NumberTooLarge,
}

impl RawJson {
    /// Takes JSON in, if it keeps to the rule.
    ///
    /// # Errors
    /// What it breaks, and where: the path of keys and positions.
    pub fn parse(text: &str) -> Result<Self, (String, Fault)> {
        let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        Self::checked(raw)
    }

    /// Takes JSON in that is known to be JSON.
    ///
    /// # Errors
    /// As [`RawJson::parse`].
    pub fn checked(raw: Box<RawValue>) -> Result<Self, (String, Fault)> {
        let mut found = Found::default();
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        let read = Check { depth: 0, found: &mut found }.deserialize(&mut reader);
        match (read, found.fault.take()) {
            (_, Some(fault)) => {
                let path: Vec<String> = found.path.into_iter().rev().collect();
                Err((path.join("."), fault))
            }
            (Err(error), None) => Err(not_json(&error)),
            (Ok(()), None) if numbers_fit(raw.get()) => Ok(Self(raw)),
            (Ok(()), None) => Err((String::new(), Fault::NumberTooLarge)),
        }
    }

    /// Our own words as JSON.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        serde_json::value::to_raw_value(value).map_or_else(|_| Self::null(), Self)
    }

    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// `[]`
    #[must_use]
    pub fn empty_list() -> Self {
        Self::of(&[(); 0])
    }

    /// `{}`
    #[must_use]
    pub fn empty_object() -> Self {
        Self::of(&serde_json::Map::new())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Its length in bytes, as text.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_str().len()
    }

    /// Bytes it takes where its numbers are written out, as Postgres writes them: `1e63` takes 64.
    #[must_use]
    pub fn written_len(&self) -> usize {
        let mut written = self.len();
        all_numbers(self.as_str(), |number| {
            written += if number.contains(['e', 'E']) { NUMBER_CHARS_MAX } else { 0 };
            true
        });
        written
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }

    #[must_use]
    pub fn is_list(&self) -> bool {
        self.as_str().trim_start().starts_with('[')
    }

    #[must_use]
    pub fn is_object(&self) -> bool {
        self.as_str().trim_start().starts_with('{')
    }

    /// Its fields; none: it is no object.
    #[must_use]
    pub fn fields(&self) -> Option<Fields> {
        self.read()
    }

    /// As a type of ours; none: it is something else.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.as_str()).ok()
    }
}

fn not_json(error: &serde_json::Error) -> (String, Fault) {
    (String::new(), Fault::NotJson(error.to_string()))
}

/// Whether every number keeps to its bounds. Postgres writes numbers out: `1e9999` would come back as ten thousand characters.
fn numbers_fit(text: &str) -> bool {
    all_numbers(text, fits)
}

/// Whether this holds for each number in a text of JSON; stops at the first for which it does not.
fn all_numbers(text: &str, mut holds: impl FnMut(&str) -> bool) -> bool {
    let (mut in_text, mut escaped) = (false, false);
    let mut number = String::new();
    for char in text.chars().chain([' ']) {
        match char {
            _ if in_text => {
                let ends = char == '"' && !escaped;
                escaped = char == '\\' && !escaped;
                in_text = !ends;
            }
            '"' => in_text = true,
            '0'..='9' | '+' | '-' | '.' | 'e' | 'E' if !number.is_empty() || char == '-' || char.is_ascii_digit() => {
                number.push(char);
            }
            _ => {
                if !number.is_empty() && !holds(&number) {
                    return false;
                }
                number.clear();
            }
        }
    }
    true
}

fn fits(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: u32 = exponent.trim_start_matches(['+', '-']).parse().unwrap_or(u32::MAX);
    let whole = digits.split('.').next().unwrap_or_default().trim_start_matches('-').len();
    let whole = u32::try_from(whole).unwrap_or(u32::MAX);
    number.len() <= NUMBER_CHARS_MAX && whole.saturating_add(exponent) <= NUMBER_EXPONENT_MAX
}

/// What a check has found so far.
#[derive(Default)]
struct Found {
    fault: Option<Fault>,
    /// From the fault outwards.
    path: Vec<String>,
}

/// Walks a value once.
struct Check<'a> {
    depth: usize,
    found: &'a mut Found,
}

impl Check<'_> {
    fn fail<E: serde::de::Error>(self, fault: Fault) -> E {
        let error = E::custom(&fault);
        self.found.fault = Some(fault);
        error
    }

    fn inner(&mut self) -> Check<'_> {
        Check { depth: self.depth + 1, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') { Err(self.fail(Fault::Nul)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        if self.depth >= DEPTH_MAX {
            return Err(self.fail(Fault::TooDeep));
        }
        for nth in 0_usize.. {
            match items.next_element_seed(self.inner()) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    self.found.path.push(nth.to_string());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        if self.depth >= DEPTH_MAX {
            return Err(self.fail(Fault::TooDeep));
        }
        let mut keys = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            if key.contains('\0') {
                self.found.path.push(key.replace('\0', "\\0"));
                return Err(self.fail(Fault::Nul));
            }
            if let Err(error) = fields.next_value_seed(self.inner()) {
                self.found.path.push(key);
                return Err(error);
            }
            if keys.contains(&key) {
                return Err(self.fail(Fault::DuplicateKey(key)));
            }
            keys.insert(key);
        }
        Ok(())
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Default for RawJson {
    fn default() -> Self {
        Self::empty_object()
    }
}

/// For values of ours and of tests, which keep to the rule.
impl From<Value> for RawJson {
    fn from(value: Value) -> Self {
        Self::of(&value)
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(output)
    }
}

impl sqlx::Type<sqlx::Postgres> for RawJson {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <sqlx::types::Json<Box<RawValue>> as sqlx::Type<sqlx::Postgres>>::type_info()
    }

    fn compatible(given: &sqlx::postgres::PgTypeInfo) -> bool {
        <sqlx::types::Json<Box<RawValue>> as sqlx::Type<sqlx::Postgres>>::compatible(given)
    }
}

impl sqlx::postgres::PgHasArrayType for RawJson {
    fn array_type_info() -> sqlx::postgres::PgTypeInfo {
        <sqlx::types::Json<Box<RawValue>> as sqlx::postgres::PgHasArrayType>::array_type_info()
    }
}

impl sqlx::Encode<'_, sqlx::Postgres> for RawJson {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        sqlx::types::Json(&*self.0).encode_by_ref(buffer)
    }
}

/// From Postgres: any JSON is taken as it is, however deep and whatever its numbers.
impl<'r> sqlx::Decode<'r, sqlx::Postgres> for RawJson {
    fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        sqlx::types::Json::<Box<RawValue>>::decode(value).map(|json| Self(json.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (String, Fault) {
        RawJson::parse(text).expect_err(text)
    }

    /// Digits, order and spelling stay as they were given.
    #[test]
    fn text_is_kept() {
        for text in [
            "{}",
            r#"{"b":123456789012345678901234567890,"a":1.10}"#,
            r#"{"z": [1, 2.50, -0, 1e3], "y": "1e999", "x": "\"1e999"}"#,
            r#"[["\ud83d\ude00", null, true]]"#,
        ] {
            let json = RawJson::parse(text).expect(text);
            assert_eq!((json.as_str(), serde_json::to_string(&json).expect("text")), (text, text.to_owned()));
        }
    }

    /// Each thing that could not be stored, or not be read back, is refused with its place.
    #[test]
    fn what_cannot_be_read_back_is_refused() {
        assert_eq!(fault("[\"a\\u0000\"]"), ("0".to_owned(), Fault::Nul));
        assert_eq!(fault("{\"a\\u0000\":1}"), ("a\\0".to_owned(), Fault::Nul));
        assert_eq!(fault(r#"{"a":{"b":1,"b":2}}"#), ("a".to_owned(), Fault::DuplicateKey("b".to_owned())));
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(RawJson::parse(&deep(DEPTH_MAX)).is_ok());
        assert_eq!(fault(&deep(DEPTH_MAX + 1)).1, Fault::TooDeep);
        assert_eq!(fault(&format!("{}{}", "{\"a\":".repeat(40), "1".to_owned() + &"}".repeat(40))).1, Fault::TooDeep);
        for number in ["1e400", "-1E+65", "1e-400", "1.7976931348623157e308", &"9".repeat(65), "1."] {
            let refused = fault(&format!("{{\"n\":{number}}}")).1;
            assert!(matches!(refused, Fault::NumberTooLarge | Fault::NotJson(_)), "{number}: {refused:?}");
        }
        assert!(matches!(fault(r#"["\ud800"]"#).1, Fault::NotJson(_)));
        assert!(matches!(fault("{\"a\":1").1, Fault::NotJson(_)));
        assert!(matches!(fault("{} {}").1, Fault::NotJson(_)));
        assert!(matches!(fault(&deep(100_000)).1, Fault::TooDeep));
    }

    /// The fields of an object are read one by one; an odd one spoils nothing.
    #[test]
    fn fields() {
        let stored = RawJson(serde_json::from_str(r#"{"a":1e400,"b":"x"}"#).expect("JSON"));
        let fields = stored.fields().expect("an object");
        assert_eq!(fields.get("a").map(|raw| raw.get()), Some("1e400"));
        assert!(RawJson::of(&1).fields().is_none());
    }
}
