//! Reading requests, with errors that name the field.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

use crate::api::Api;
use crate::api::error::Error;
use crate::domain::ids::EXTERNAL_ID_CHARS_MAX;

/// A JSON body as it came, and the hash of its bytes.
#[derive(Clone, Debug)]
pub struct RawJson {
    pub body: Value,
    /// Tells requests under one Idempotency-Key apart.
    pub hash: Vec<u8>,
}

impl FromRequest<Arc<Api>> for RawJson {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        require_json(&parts)?;
        let bytes = read(Request::from_parts(parts, body), api).await?;
        Ok(Self { body: json(&bytes)?, hash: Sha256::digest(&bytes).to_vec() })
    }
}

/// A JSON body of a known shape, and the hash of its bytes.
#[derive(Clone, Debug)]
pub struct Json<T> {
    pub body: T,
    pub hash: Vec<u8>,
}

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Error> {
        let raw = RawJson::from_request(request, api).await?;
        Ok(Self { body: parse(raw.body)?, hash: raw.hash })
    }
}

/// The raw body, as webhooks need it.
///
/// # Errors
/// 413 when it is too large, 400 when it breaks off.
pub async fn read(request: Request, api: &Arc<Api>) -> Result<Bytes, Error> {
    Bytes::from_request(request, api).await.map_err(|rejection| {
        if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            Error::too_large(api.limits.body_bytes_max)
        } else {
            Error::invalid_field("body", "broke off")
        }
    })
}

fn require_json(parts: &Parts) -> Result<(), Error> {
    let given = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
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
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let message = error.into_inner().to_string();
        match message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
            Some((field, _)) if path.is_empty() => Error::invalid_field(field, "is needed"),
            Some((field, _)) => Error::invalid_field(&format!("{path}.{field}"), "is needed"),
            None => Error::invalid_field(&path, message),
        }
    })
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
