//! What all providers over HTTP share: a client that never repeats a request by itself, bounded answers, `Retry-After`.

use std::error::Error as _;
use std::time::Duration;

use chrono::Utc;
use percent_encoding::utf8_percent_encode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response};

use crate::config::RESERVED;
use crate::domain::retry;
use crate::provider::Placed;

/// An answer longer than this is not read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So many digits may be a phone number.
const NUMBER_DIGITS_MIN: usize = 7;
/// So much of an answer is quoted in a reason.
const QUOTE_CHARS_MAX: usize = 200;

/// A client. Redirects are not followed: a call must not be placed twice because a server moved.
///
/// # Errors
/// It cannot be built (no roots of trust on this machine).
pub fn client(timeout: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(5)))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("outdial/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A request for a call that got no answer. A connection that never stood (DNS, refused, TLS) took no byte of it.
#[must_use]
pub fn unanswered(error: &reqwest::Error) -> Placed {
    let reason = reason_of(error);
    if error.is_connect() || error.is_builder() { Placed::NotSent { reason } } else { Placed::Ambiguous { reason } }
}

/// The innermost reason, without the URL: it may hold a key.
#[must_use]
pub fn reason_of(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = if error.is_timeout() { "timeout".to_owned() } else { "request failed".to_owned() };
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    quoted(&text)
}

/// The beginning of a text, without phone numbers: it goes into logs.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    let mut digits = String::new();
    for char in text.chars().take(QUOTE_CHARS_MAX).chain(['\0']) {
        if char.is_ascii_digit() {
            digits.push(char);
            continue;
        }
        quoted.push_str(if digits.len() >= NUMBER_DIGITS_MIN { "…" } else { &digits });
        digits.clear();
        quoted.extend(Some(char).filter(|char| *char != '\0'));
    }
    quoted
}

/// The whole body; none when it breaks off or is too long.
pub async fn read(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    Some(body)
}

/// A segment of a path, or a value of a query: ids of theirs hold colons, and may hold anything.
#[must_use]
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// What `Retry-After` asks for.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    retry::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_not_quoted() {
        assert_eq!(quoted("HTTP 422 10016 +14155550100 is not valid"), "HTTP 422 10016 +… is not valid");
        assert_eq!(quoted("call 4155550100"), "call …");
        assert_eq!(quoted(&"x".repeat(500)).len(), 200);
    }
}
