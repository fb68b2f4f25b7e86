//! What all providers over HTTP share: a client that never repeats a request by itself, bounded answers, `Retry-After`.

use std::error::Error as _;
use std::time::Duration;

use chrono::Utc;
use percent_encoding::utf8_percent_encode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};

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

/// What is wrong with us, and not with the call that was asked for: it would be the same for every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OurFault {
    /// The key, or what its account may do.
    Key,
    /// The address, or how what listens there wants to be spoken to.
    Address,
}

/// Whether an answer says something of us: 401, 403, 407 of the key; of the address what RFC 9110 says of the target, the protocol or the
/// form of every request alike, and the redirects that ask for the same request elsewhere. Not 302 and 303: what they point to may be
/// what was made.
#[must_use]
pub fn our_fault(status: StatusCode) -> Option<OurFault> {
    match status.as_u16() {
        401 | 403 | 407 => Some(OurFault::Key),
        301 | 307 | 308 | 404 | 405 | 406 | 410 | 411 | 415 | 417 | 421 | 426 => Some(OurFault::Address),
        _ => None,
    }
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

/// The whole body of an answer that may hold a transcript; none when it breaks off or is too long.
pub async fn read(response: Response) -> Option<Vec<u8>> {
    read_up_to(response, ANSWER_BYTES_MAX).await
}

/// The whole body; none when it breaks off or is longer.
pub async fn read_up_to(mut response: Response, bytes_max: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > bytes_max {
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

    /// An account's fault is told from a call's by the status alone. (95e55f8 took each of them for the call's, and failed it for good; the
    /// redirects it took for doubt, which holds a slot.)
    #[test]
    fn faults_of_ours_are_known_by_the_status() {
        let of = |status: u16| our_fault(StatusCode::from_u16(status).expect("a status"));
        for status in [401, 403, 407] {
            assert_eq!(of(status), Some(OurFault::Key), "{status}");
        }
        for status in [301, 307, 308, 404, 405, 406, 410, 411, 415, 417, 421, 426] {
            assert_eq!(of(status), Some(OurFault::Address), "{status}");
        }
        for status in [200, 302, 303, 400, 402, 408, 409, 413, 422, 429, 500, 503] {
            assert_eq!(of(status), None, "{status}");
        }
    }

    #[test]
    fn numbers_are_not_quoted() {
        assert_eq!(quoted("HTTP 422 10016 +14155550100 is not valid"), "HTTP 422 10016 +… is not valid");
        assert_eq!(quoted("call 4155550100"), "call …");
        assert_eq!(quoted(&"x".repeat(500)).len(), 200);
    }
}
