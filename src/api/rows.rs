//! Lists of rows: each row is found in the body as it came, and parsed by itself, a handful at a time.
//!
//! **Invariant:** a list never becomes a tree of values. Beside the body itself there are the places of its rows, and one chunk of
//! parsed rows; a list with more rows than allowed is refused at the first that is too many.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::api::body::{Room, Whole, check_density, weight_of};
use crate::api::error::Error;
use crate::api::extract;

/// Rows of one chunk, and what they weigh together when parsed, unless one row alone weighs more. Others' requests get their turn
/// between chunks.
const CHUNK_ROWS: usize = 1000;
const CHUNK_WEIGHT: usize = 1 << 20;

/// What a list is called, and how many rows it may have.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The one field of the body.
    pub field: &'static str,
    /// What the body is called in errors.
    pub name: &'static str,
    pub rows_max: usize,
    /// Said behind the limit.
    pub hint: &'static str,
    pub row_bytes_max: usize,
}

/// A body and where its rows stand.
#[derive(Clone, Debug)]
pub struct Rows {
    whole: Arc<Whole>,
    spans: Arc<[Range<usize>]>,
    row_bytes_max: usize,
    pub hash: Vec<u8>,
}

/// One thing, or a list.
#[derive(Debug)]
pub enum OneOrList<T> {
    One { body: T, hash: Vec<u8>, room: Room },
    List(Rows),
}

impl Rows {
    /// Finds the rows of a list.
    ///
    /// # Errors
    /// 400 when it is no JSON, has another shape, no rows, or too many.
    pub fn find(whole: Whole, shape: Shape) -> Result<Self, Error> {
        let spans = spans_of(&whole, shape)?;
        let hash = extract::hash_of(&whole);
        Ok(Self { whole: Arc::new(whole), spans: spans.into(), row_bytes_max: shape.row_bytes_max, hash })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Parses the chunk that begins with this row, away from the threads that serve requests; empty behind the last row.
    ///
    /// # Errors
    /// 500 when `parse` panicked. What a row has wrong is up to `parse`.
    pub async fn chunk<T: Send + 'static>(
        &self,
        from: usize,
        parse: impl Fn(Result<&str, Error>) -> T + Send + 'static,
    ) -> Result<Vec<T>, Error> {
        let rows = self.clone();
        let parsed = tokio::task::spawn_blocking(move || {
            let (mut parsed, mut weight) = (Vec::new(), 0);
            for span in rows.spans.iter().skip(from).take(CHUNK_ROWS) {
                let text = rows.row(span);
                let own = text.map_or(0, |text| weight_of(text.as_bytes()));
                if weight > 0 && weight + own > CHUNK_WEIGHT {
                    break;
                }
                weight += own;
                let text = text.filter(|text| text.len() <= rows.row_bytes_max);
                let text = text.ok_or_else(|| Error::row_too_large(rows.row_bytes_max));
                parsed.push(parse(text.and_then(|text| check_density(text.len(), own).map(|()| text))));
            }
            parsed
        });
        parsed.await.map_err(|panic| Error::internal(anyhow::Error::new(panic)))
    }

    fn row(&self, span: &Range<usize>) -> Option<&str> {
        // It was found to be UTF-8 when it was found.
        std::str::from_utf8(self.whole.get(span.clone())?).ok()
    }
}

impl<T: DeserializeOwned> OneOrList<T> {
    /// Tells the two apart by the field a list has.
    ///
    /// # Errors
    /// 400 when it is neither.
    pub fn read(whole: Whole, shape: Shape) -> Result<Self, Error> {
        if has_field(&whole, shape.field)? {
            return Rows::find(whole, shape).map(Self::List);
        }
        if whole.len() > shape.row_bytes_max {
            return Err(Error::too_large(shape.row_bytes_max));
        }
        check_density(whole.len(), weight_of(&whole))?;
        Ok(Self::One { body: extract::one(&whole)?, hash: extract::hash_of(&whole), room: whole.into_room() })
    }
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::invalid_field("body", format!("is not JSON: {error}"))
}

fn spans_of(body: &[u8], shape: Shape) -> Result<Vec<Range<usize>>, Error> {
    let full = Cell::new(false);
    let limits = || Error::invalid_field(shape.field, format!("must have 1 to {} rows{}", shape.rows_max, shape.hint));
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let seed = List { shape, full: &full };
    let found = seed.deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track));
    let rows = match found {
        Ok(rows) => rows,
        Err(_) if full.get() => return Err(limits()),
        // Of another shape, unless it is no JSON at all.
        Err(error) => {
            let mut rest = serde_json::Deserializer::from_slice(body);
            let is_json = serde::Deserialize::deserialize(&mut rest).and_then(|IgnoredAny| rest.end());
            is_json.map_err(|error| not_json(&error))?;
            let message = error.to_string();
            // The place in the text says less than the path.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            return Err(extract::misfit(&track.path(), message));
        }
    };
    json.end().map_err(|error| not_json(&error))?;
    if rows.is_empty() {
        return Err(limits());
    }
    let start = body.as_ptr().addr();
    let span = |row: &&RawValue| {
        let at = row.get().as_ptr().addr() - start;
        at..at + row.get().len()
    };
    Ok(rows.iter().map(span).collect())
}

/// Whether the body is an object with this field.
fn has_field(body: &[u8], field: &str) -> Result<bool, Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let found = HasField(field).deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    found.map_err(|error| not_json(&error))
}

/// The object around the rows.
struct List<'a> {
    shape: Shape,
    full: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "struct {}", self.shape.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut rows = None;
        while map.next_key_seed(Named(self.shape.field))?.is_some() {
            if rows.is_some() {
                return Err(A::Error::duplicate_field(self.shape.field));
            }
            rows = Some(map.next_value_seed(Items { rows_max: self.shape.rows_max, full: self.full })?);
        }
        rows.ok_or_else(|| A::Error::missing_field(self.shape.field))
    }
}

/// The one name a field may have.
struct Named(&'static str);

impl<'de> DeserializeSeed<'de> for Named {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Named {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field identifier")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        if name == self.0 {
            return Ok(());
        }
        Err(E::custom(format_args!("unknown field `{name}`, expected `{}`", self.0)))
    }
}

/// The rows, as many as there may be.
struct Items<'a> {
    rows_max: usize,
    full: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = items.next_element::<&RawValue>()? {
            if rows.len() >= self.rows_max {
                self.full.set(true);
                return Err(A::Error::custom("too many rows"));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

struct HasField<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for HasField<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<bool, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for HasField<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            found |= key == self.0;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    const SHAPE: Shape = Shape { field: "calls", name: "BatchInput", rows_max: 3, hint: "", row_bytes_max: 100 };

    /// As it was read before: whole.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct BatchInput {
        calls: Vec<Value>,
    }

    fn told(body: &str) -> String {
        spans_of(body.as_bytes(), SHAPE)
            .map_or_else(|error| error.detail().to_owned(), |rows| format!("{} rows", rows.len()))
    }

    /// What is wrong with a list is told as it would be told of a tree of values.
    #[test]
    fn misfits_are_told_as_ever() {
        for body in [
            "{}",
            "3",
            "null",
            "\"text\"",
            "{\"calls\":3}",
            "{\"calls\":null}",
            "{\"calls\":{}}",
            "{\"x\":1}",
            "{\"calls\":[],\"x\":1}",
            "{\"calls\":[{}",
            "{\"calls\":[{}]} x",
            "{\"calls\":[{]}",
            "",
            "{\"calls\":[{},1,\"x\"]}",
            " { \"calls\" : [ [ ] ] } ",
        ] {
            let whole = extract::json(body.as_bytes()).and_then(extract::fit::<BatchInput>);
            let whole =
                whole.map_or_else(|error| error.detail().to_owned(), |batch| format!("{} rows", batch.calls.len()));
            assert_eq!(told(body), whole, "{body}");
        }
    }

    /// A list stops at the first row that is too many, whatever comes behind it; rows are found where they stand.
    #[test]
    fn rows_are_found() {
        assert_eq!(told("{\"calls\":[1,2,3,4,not even JSON"), "calls: must have 1 to 3 rows");
        assert_eq!(told("{\"calls\":[]}"), "calls: must have 1 to 3 rows");
        let body = " {\"calls\": [ {\"a\" : 1} ,\"b\\\"\", [[[]]] ] } ";
        let spans = spans_of(body.as_bytes(), SHAPE).expect("rows");
        let rows: Vec<&str> = spans.iter().map(|span| &body[span.clone()]).collect();
        assert_eq!(rows, ["{\"a\" : 1}", "\"b\\\"\"", "[[[]]]"]);
        let deep = format!("{{\"calls\":[{}{}]}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(told(&deep), "1 rows");
    }
}
