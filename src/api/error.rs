//! Errors as clients see them: application/problem+json (RFC 9457), a stable code, the fields at fault.
//!
//! Built by named functions. `source` is for the log, printed once, here; it never reaches the client.

use std::sync::Arc;

use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::fault;

/// What went wrong with a request.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    existing_id: Option<String>,
    retry_after_secs: Option<u32>,
    source: Option<anyhow::Error>,
}

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where in the body, for example `payload.to`; empty for the body as a whole.
    pub path: String,
    pub message: String,
}

impl FieldError {
    /// A message may quote what was sent, so both are cut where they get long: a list answers for thousands of rows.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: cut(path.into()), message: cut(message.into()) }
    }
}

const TEXT_BYTES_MAX: usize = 500;

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// The body of an error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Always false.
    success: bool,
    /// Always `about:blank`: `code` tells problems apart.
    r#type: &'static str,
    title: String,
    status: u16,
    /// Stable; act on this.
    code: String,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The call that is in the way, with `duplicate_call`.
    #[serde(skip_serializing_if = "Option::is_none")]
    existing_id: Option<String>,
}

impl Error {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            existing_id: None,
            retry_after_secs: None,
            source: None,
        }
    }

    /// 400 with the fields at fault.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail) }
    }

    /// 400 for one field.
    #[must_use]
    pub fn invalid_field(path: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(path, message)])
    }

    #[must_use]
    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    #[must_use]
    pub fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: no such thing, or another user's.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has no such method")
    }

    /// 409 with a code of its own.
    #[must_use]
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 409: another call is in the way.
    #[must_use]
    pub fn duplicate_call(of: impl ToString) -> Self {
        let detail = "the same user already has a waiting or live call to this number";
        Self { existing_id: Some(of.to_string()), ..Self::conflict("duplicate_call", detail) }
    }

    /// 409: something that must be unique is taken.
    fn taken(constraint: Option<&str>) -> Self {
        let (code, detail) = match constraint.unwrap_or_default() {
            name if name.ends_with("external_id_key") => {
                ("external_id_taken", "externalId: another one has this external id")
            }
            "users_email_key" => ("email_taken", "email: another user has this address"),
            "phone_numbers_phone_key" => ("number_taken", "number: the user has this number already"),
            "calls_once_in_campaign" => ("duplicate_in_campaign", "the campaign has a call to this number already"),
            _ => ("already_exists", "it exists already"),
        };
        Self::conflict(code, detail)
    }

    #[must_use]
    pub fn too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body may have at most {bytes_max} bytes"))
    }

    /// As [`Error::too_large`], for a row of a list.
    #[must_use]
    pub fn row_too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("a row may have at most {bytes_max} bytes"))
    }

    #[must_use]
    pub fn unsupported_media_type(expected: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", format!("send {expected}"))
    }

    /// 422: an Idempotency-Key that was used for another request.
    #[must_use]
    pub fn key_reused() -> Self {
        let detail = "this Idempotency-Key was used for a different request";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
    }

    /// 429: the key has used up its requests of this second.
    #[must_use]
    pub fn too_many_requests(retry_after_secs: u32) -> Self {
        let detail = "this key makes too many requests; wait and try again";
        let slow = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
        Self { retry_after_secs: Some(retry_after_secs.max(1)), ..slow }
    }

    /// 429: the user has as much waiting or stored as it may.
    #[must_use]
    pub fn quota(detail: impl Into<String>) -> Self {
        let full = Self::new(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", detail);
        Self { retry_after_secs: Some(60), ..full }
    }

    /// 429: the user's other requests take all it may have at once.
    #[must_use]
    pub fn too_much_at_once() -> Self {
        let detail = "this user's other requests take all it may have at once; wait for them and try again";
        let busy = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
        Self { retry_after_secs: Some(1), ..busy }
    }

    /// 503: there is no room for another large body.
    #[must_use]
    pub fn overloaded() -> Self {
        let detail = "large bodies or answers take all the room at the moment; try again";
        let full = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail);
        Self { retry_after_secs: Some(5), ..full }
    }

    /// 408: the body stalled.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not come in time")
    }

    /// 503: Postgres is away; nothing was lost that was answered before.
    #[must_use]
    pub fn unavailable(source: anyhow::Error) -> Self {
        let away =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", "the database is away; try again");
        Self { retry_after_secs: Some(1), source: Some(source), ..away }
    }

    #[must_use]
    pub fn internal(source: anyhow::Error) -> Self {
        let failed =
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here; it is in the log");
        Self { source: Some(source), ..failed }
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.errors
    }

    /// The body, without the parts meant for the log.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem {
            success: false,
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail.clone(),
            errors: self.errors.clone(),
            existing_id: self.existing_id.clone(),
        }
    }
}

impl From<&sqlx::Error> for Error {
    /// An outage is always 503, whatever shape it takes; 500 is a mistake of ours alone.
    fn from(error: &sqlx::Error) -> Self {
        let source = anyhow::anyhow!("{error}");
        match error {
            sqlx::Error::Database(refused) if refused.is_unique_violation() => Self::taken(refused.constraint()),
            sqlx::Error::Database(refused) if refused.is_foreign_key_violation() => {
                Self::conflict("in_use", "something else still refers to it, or what it refers to is gone")
            }
            sqlx::Error::Database(refused) if refused.is_check_violation() => {
                let constraint = refused.constraint().unwrap_or("a constraint");
                Self::invalid_field("", format!("cannot be stored: it breaks {constraint}"))
            }
            _ if fault::is_of_the_values(error) => Self::internal(source.context("a statement failed")),
            _ if fault::is_of_the_statement(error) => Self::internal(source.context("a statement failed")),
            _ => Self::unavailable(source),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::from(&error)
    }
}

impl From<Arc<sqlx::Error>> for Error {
    fn from(error: Arc<sqlx::Error>) -> Self {
        Self::from(&*error)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Some(source) = &self.source {
            if self.status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(error = format!("{source:#}"), "a request failed");
            } else {
                tracing::warn!(error = format!("{source:#}"), "a request could not be served");
            }
        }
        let mut response = (self.status, axum::Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outdial\""));
        }
        let is_over = [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_TIMEOUT, StatusCode::UNAUTHORIZED];
        if is_over.contains(&self.status) {
            // The rest of the body is not read, or who guesses must begin anew: the connection is of no further use.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The problems any request may meet, for the document.
#[derive(utoipa::IntoResponses)]
pub enum Problems {
    /// Malformed or invalid; `errors` names the fields.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// A key is needed, or this one is unknown.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// This key may not do that.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// No such thing, or another user's.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// The body did not come in time.
    #[response(status = 408, content_type = "application/problem+json")]
    RequestTimeout(#[to_schema] Problem),
    /// The state it is in, or something unique, is in the way.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// Not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(#[to_schema] Problem),
    /// The Idempotency-Key was used for another request.
    #[response(status = 422, content_type = "application/problem+json")]
    KeyReused(#[to_schema] Problem),
    /// The key makes too many requests, or the user too many at once.
    #[response(status = 429, content_type = "application/problem+json")]
    TooManyRequests(#[to_schema] Problem),
    /// The database is away, or there is no room for the body.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}
