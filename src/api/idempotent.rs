//! `Idempotency-Key`: the first answer is kept for a day and given again.
//!
//! Ids of what a request creates grow from the key's seed, so a request that died between its commit and its answer creates
//! nothing twice when it is sent again (tests/it/api_calls.rs).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::api::Api;
use crate::api::error::Error;
use crate::api::usage;
use crate::domain::ids::{UserId, new_id};
use crate::store::idempotency::{self, Begun};

const KEY_CHARS_MAX: usize = 255;

/// The key of a request, if it has one, and the path and query it was sent to.
#[derive(Clone, Debug)]
pub struct Key {
    key: Option<String>,
    path: String,
}

impl FromRequestParts<Arc<Api>> for Key {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Error> {
        // The old paths are aliases: a repeat through the other is the same request. Whose things are meant may stand in the query.
        let (path, query) = (parts.uri.path().trim_start_matches("/api/v1"), parts.uri.query());
        let path = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self { key: None, path });
        };
        let text = value.to_str().unwrap_or_default().trim();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        if text.is_empty() || text.len() > KEY_CHARS_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("must be 1 to {KEY_CHARS_MAX} visible ASCII characters");
            return Err(Error::invalid_field("Idempotency-Key", message));
        }
        Ok(Self { key: Some(text.to_owned()), path })
    }
}

/// An answer that can be kept.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
    content_type: &'static str,
}

impl Answer {
    /// # Errors
    /// The body does not serialize; ours always do.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::internal(error.into()))?;
        Ok(Self { status, body, content_type: "application/json" })
    }

    fn of_error(error: &Error) -> Result<Self, Error> {
        Ok(Self { content_type: "application/problem+json", ..Self::json(error.status(), &error.problem())? })
    }

    fn replayed(status: u16, body: Vec<u8>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = if status.is_success() { "application/json" } else { "application/problem+json" };
        Self { status, body, content_type }
    }

    fn into_response(self, replayed: bool) -> Response<Body> {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if replayed {
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

/// Runs `work` once for a key, detached from the client; ids are to be grown from the seed it is given.
///
/// # Errors
/// 409 while the first request runs, 422 for another body under the same key, and the work's own.
pub async fn once<F>(
    api: &Arc<Api>,
    user: UserId,
    key: Key,
    body_hash: &[u8],
    work: impl FnOnce(Uuid) -> F + Send + 'static,
) -> Result<Response<Body>, Error>
where
    F: Future<Output = Result<Answer, Error>> + Send + 'static,
{
    let Some(name) = key.key else {
        return Ok(api.detached(work(new_id())).await?.into_response(false));
    };
    let fingerprint =
        Sha256::new().chain_update(&key.path).chain_update([0]).chain_update(body_hash).finalize().to_vec();
    let inner = Arc::clone(api);
    api.detached(async move {
        let pool = &inner.db.work;
        match idempotency::begin(pool, user, &name, &fingerprint).await? {
            Begun::Replay { status, body } => Ok(Answer::replayed(status, body).into_response(true)),
            Begun::Running => {
                Err(Error::conflict("idempotency_key_in_use", "the first request with this key is still running"))
            }
            Begun::Mismatch => Err(Error::key_reused()),
            Begun::Run { seed } => {
                if let Err(full) = usage::admit_answer(&inner, user).await {
                    idempotency::release(pool, user, &name).await?;
                    return Err(full);
                }
                let answer = match work(seed).await {
                    Ok(answer) => answer,
                    Err(error)
                        if error.status().is_server_error() || error.status() == StatusCode::TOO_MANY_REQUESTS =>
                    {
                        // No final answer: a repeat runs again, with the same ids.
                        idempotency::release(pool, user, &name).await?;
                        return Err(error);
                    }
                    Err(error) => Answer::of_error(&error)?,
                };
                idempotency::finish(pool, user, &name, answer.status.as_u16(), &answer.body).await?;
                Ok(answer.into_response(false))
            }
        }
    })
    .await
}
