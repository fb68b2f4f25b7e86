//! Reading requests, with errors that name the field.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::Api;
use crate::api::body::{Room, Whole, check_density, weight_of};
use crate::api::error::Error;
use crate::domain::ids::EXTERNAL_ID_CHARS_MAX;

/// A JSON body of a known shape, and the hash of its bytes.
#[derive(Debug)]
pub struct Json<T> {
    pub body: T,
    /// Tells requests under one Idempotency-Key apart.
    pub hash: Vec<u8>,
    /// Of what was read, until the handler is done with it.
    pub room: Room,
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Error> {
        require_json(request.headers())?;
        let whole = read(request, api).await?;
        check_density(whole.len(), weight_of(&whole))?;
        aside(whole, |whole| {
            let (body, hash) = (one(&whole)?, hash_of(&whole));
            Ok(Self { body, hash, room: whole.into_room() })
        })
        .await
    }
}

/// A body that is one thing: as webhooks need it, raw, and small enough to be parsed whole.
///
/// # Errors
/// 413 when it is too large, 400 when it breaks off, 408 when it stalls, 429 and 503 when there is no room for it.
pub async fn read(request: Request, api: &Arc<Api>) -> Result<Whole, Error> {
    let mut whole = Whole::read(request, api).await?;
    whole.charge_parsed(api).await?;
    Ok(whole)
}

/// Larger bodies are parsed where nobody waits behind them.
const ASIDE_FROM: usize = 32 * 1024;

/// What is made of a body, off the threads that serve requests where that may take long.
///
/// # Errors
/// The work's own; 500 when it panicked.
pub async fn aside<T: Send + 'static>(
    whole: Whole,
    work: impl FnOnce(Whole) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if whole.len() < ASIDE_FROM {
        return work(whole);
    }
    let done = tokio::task::spawn_blocking(move || work(whole)).await;
    done.map_err(|panic| Error::internal(anyhow::Error::new(panic)))?
}

/// Tells bodies apart.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// # Errors
/// 415 for anything but JSON.
pub fn require_json(headers: &HeaderMap) -> Result<(), Error> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        Ok(())
    } else {
        Err(Error::unsupported_media_type("Content-Type: application/json"))
    }
}

/// Bytes as JSON of any shape.
///
/// # Errors
/// 400 that says where it stops being JSON.
pub fn json(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::invalid_field("body", format!("is not JSON: {error}")))
}

/// A text of JSON as `T`, read straight into it; what does not fit is told as [`parse`] tells it.
///
/// # Errors
/// As [`json`] and [`parse`].
pub fn one<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // A NUL may stand in a text that fits.
    if !bytes.windows(NUL.len()).any(|part| part == NUL)
        && let Ok(body) = serde_json::from_slice(bytes)
    {
        return Ok(body);
    }
    // A tree of values says best where the fault is; how large it may be has been checked by its weight.
    parse(json(bytes)?)
}

/// How a NUL character is written in JSON.
const NUL: &[u8] = br"\u0000";

/// JSON as `T`, without characters that Postgres cannot keep; the error names the path and the way out.
///
/// # Errors
/// 400 with the path of what does not fit.
pub fn parse<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    if let Some(path) = path_of_nul(&value) {
        return Err(Error::invalid_field(&path, "must not hold NUL characters"));
    }
    fit(value)
}

/// JSON as `T`, whatever its texts hold.
///
/// # Errors
/// 400 with the path of what does not fit.
pub fn fit<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| misfit(error.path(), &error.inner().to_string()))
}

/// What does not fit, and where.
#[must_use]
pub fn misfit(path: &serde_path_to_error::Path, message: &str) -> Error {
    let path = path.to_string();
    let path = if path == "." { String::new() } else { path };
    match message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) if path.is_empty() => Error::invalid_field(field, "is needed"),
        Some((field, _)) => Error::invalid_field(&format!("{path}.{field}"), "is needed"),
        None => Error::invalid_field(&path, message),
    }
}

/// Where a NUL character stands, which Postgres cannot keep.
#[must_use]
pub fn path_of_nul(value: &Value) -> Option<String> {
    let join = |head: &str, tail: String| {
        if tail.is_empty() { head.to_owned() } else { format!("{head}.{tail}") }
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(nth, item)| Some(join(&nth.to_string(), path_of_nul(item)?)))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            if name.contains('\0') {
                return Some(name.replace('\0', "\\0"));
            }
            Some(join(name, path_of_nul(field)?))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Query parameters.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Error> {
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("%00") {
            return Err(Error::invalid_field("query", "must not hold NUL characters"));
        }
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|rejection| Error::invalid_field("query", rejection.body_text()))
    }
}

/// The last id in the path: ours or the client's own.
#[derive(Clone, Debug)]
pub struct Id(pub String);

impl FromRequestParts<Arc<Api>> for Id {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Error> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, api).await;
        let id = path.map_err(|_| Error::not_found("page"))?.0;
        if id.is_empty() || id.contains('\0') || id.chars().count() > EXTERNAL_ID_CHARS_MAX {
            return Err(Error::not_found("id"));
        }
        Ok(Self(id))
    }
}

/// The two ids in a path: whose, and which.
#[derive(Clone, Debug)]
pub struct Ids(pub String, pub String);

impl FromRequestParts<Arc<Api>> for Ids {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Error> {
        let path = axum::extract::Path::<(String, String)>::from_request_parts(parts, api).await;
        let (whose, which) = path.map_err(|_| Error::not_found("page"))?.0;
        let is_id = |id: &str| !id.is_empty() && !id.contains('\0') && id.chars().count() <= EXTERNAL_ID_CHARS_MAX;
        if is_id(&whose) && is_id(&which) { Ok(Self(whose, which)) } else { Err(Error::not_found("id")) }
    }
}
