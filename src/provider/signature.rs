//! Signatures of webhooks over the raw bytes, and the token in the URLs we hand out.
//!
//! Accepted on the generic routes, each by keys of its own scheme ([`WebhookKey`]): Standard Webhooks (`id.timestamp.body`, base64,
//! several entries); HMAC-SHA256 of `timestamp.body` in hex, in `X-Webhook-Signature` with `X-Webhook-Timestamp`; and that of the body
//! alone, which is bound to no time. All comparisons take constant time.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::Sha256;

use crate::domain::ids::AttemptId;
use crate::domain::webhook_key::WebhookKey;

type HmacSha256 = Hmac<Sha256>;

/// So many signatures of one request are looked at; senders that rotate keys send two or three.
pub const ENTRIES_MAX: usize = 10;

/// The headers of one request that carry signatures, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `webhook-id`
    pub id: Option<&'a str>,
    /// `webhook-timestamp`, Unix seconds
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`, entries separated by spaces
    pub signature: Option<&'a str>,
    /// `X-Webhook-Signature`, hex, optionally after `sha256=`
    pub hex: Option<&'a str>,
    /// `X-Webhook-Timestamp`, Unix seconds
    pub hex_timestamp: Option<&'a str>,
}

/// What a signature proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof<'a> {
    /// This body, about now; the sender's id of the event, where the signature covers one.
    Now { id: Option<&'a str> },
    /// This body, at any time: it may be one that was sent before.
    AnyTime,
}

/// What the signatures prove, if one of the keys made one of them.
#[must_use]
pub fn proof<'a>(
    keys: &[WebhookKey],
    headers: Headers<'a>,
    body: &[u8],
    now_unix: i64,
    tolerance_secs: u64,
) -> Option<Proof<'a>> {
    let is_recent = |timestamp: &str| {
        timestamp.parse::<i64>().is_ok_and(|signed_at| signed_at.abs_diff(now_unix) <= tolerance_secs)
    };
    if let (Some(id), Some(timestamp), Some(signature)) = (headers.id, headers.timestamp, headers.signature)
        && is_recent(timestamp)
        && !id.is_empty()
        && !id.contains('.')
        && keys.iter().any(|key| standard_webhooks(key, id, timestamp, signature, body))
    {
        return Some(Proof::Now { id: Some(id) });
    }
    let given = headers.hex.and_then(|hex| from_hex(hex.strip_prefix("sha256=").unwrap_or(hex)))?;
    let timestamp = headers.hex_timestamp.filter(|timestamp| is_recent(timestamp));
    if timestamp.is_some_and(|timestamp| hex(keys, &given, &[timestamp.as_bytes(), b".", body])) {
        return Some(Proof::Now { id: None });
    }
    // A time that is not signed proves nothing.
    hex(keys, &given, &[body]).then_some(Proof::AnyTime)
}

/// Standard Webhooks 1.0: symmetric (`v1`), or by a public key (`v1a`).
fn standard_webhooks(key: &WebhookKey, id: &str, timestamp: &str, signature: &str, body: &[u8]) -> bool {
    let entries = |version: &'static str| {
        let entries = signature.split(' ').take(ENTRIES_MAX);
        entries.filter_map(move |entry| STANDARD.decode(entry.strip_prefix(version)?).ok())
    };
    match key {
        WebhookKey::Standard(key) => standard_mac(key, id, timestamp, body)
            .is_some_and(|mac| entries("v1,").any(|given| mac.clone().verify_slice(&given).is_ok())),
        WebhookKey::Public(key) => {
            let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
            let key = UnparsedPublicKey::new(&ED25519, key);
            entries("v1a,").any(|given| key.verify(&message, &given).is_ok())
        }
        WebhookKey::Hex(_) => false,
    }
}

/// HMAC-SHA256 of these parts under one of the keys of that scheme.
fn hex(keys: &[WebhookKey], given: &[u8], parts: &[&[u8]]) -> bool {
    keys.iter().any(|key| match key {
        WebhookKey::Hex(key) => keyed(key).is_some_and(|mut mac| {
            parts.iter().for_each(|part| mac.update(part));
            mac.verify_slice(given).is_ok()
        }),
        WebhookKey::Standard(_) | WebhookKey::Public(_) => false,
    })
}

/// The `webhook-signature` of a message by Standard Webhooks; none: the secret is no key of theirs.
#[must_use]
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let Ok(WebhookKey::Standard(key)) = WebhookKey::parse(secret) else { return None };
    let mac = standard_mac(&key, id, &timestamp.to_string(), body)?;
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// `id.timestamp.body` under a key of Standard Webhooks.
fn standard_mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> Option<HmacSha256> {
    let mut mac = keyed(key)?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(mac)
}

/// A new secret for signing by Standard Webhooks: 256 random bits.
#[must_use]
pub fn fresh_secret() -> String {
    format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

/// A secret of this installation for one purpose, as text: HMAC of the purpose by its key.
#[must_use]
pub fn derived_secret(key: &[u8], purpose: &str) -> String {
    let Some(mut mac) = keyed(key) else {
        return String::new();
    };
    mac.update(purpose.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// The token of an attempt's webhook URL: HMAC of its id by the key of this installation.
#[must_use]
pub fn token(key: &[u8], attempt: AttemptId) -> String {
    let Some(mut mac) = keyed(key) else {
        return String::new();
    };
    mac.update(attempt.0.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Whether a token was made for this attempt by this installation.
#[must_use]
pub fn is_our_token(key: &[u8], attempt: AttemptId, given: &str) -> bool {
    let Ok(given) = URL_SAFE_NO_PAD.decode(given) else {
        return false;
    };
    let Some(mut mac) = keyed(key) else {
        return false;
    };
    mac.update(attempt.0.as_bytes());
    mac.verify_slice(&given).is_ok()
}

/// An empty key signs nothing.
pub(super) fn keyed(key: &[u8]) -> Option<HmacSha256> {
    if key.is_empty() { None } else { HmacSha256::new_from_slice(key).ok() }
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNED_AT: i64 = 1_649_367_553;

    fn key(text: &str) -> WebhookKey {
        WebhookKey::parse(text).expect("a key")
    }

    fn headers<'a>(signature: &'a str) -> Headers<'a> {
        Headers {
            id: Some("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
            timestamp: Some("1649367553"),
            signature: Some(signature),
            ..Headers::default()
        }
    }

    /// The vector of the Standard Webhooks project verifies, in a list too; a wrong byte, a stale time, another version do not, nor one
    /// that stands behind more signatures than are looked at.
    #[test]
    fn standard_webhooks_vector() {
        let keys = [key("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAA"), key(SECRET)];
        let good = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        let listed = format!("v1,AAAA {good}");
        let other_version = good.replace("v1,", "v2,");
        let late = format!("{}{good}", "v1,AAAA ".repeat(ENTRIES_MAX));
        let genuine = |keys: &[WebhookKey], signature: &str, body: &[u8], now: i64| {
            proof(keys, headers(signature), body, now, 300)
                == Some(Proof::Now { id: Some("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk") })
        };
        assert!(genuine(&keys, good, BODY, SIGNED_AT));
        assert!(genuine(&keys, &listed, BODY, SIGNED_AT + 300));
        assert!(!genuine(&keys, good, BODY, SIGNED_AT + 301));
        assert!(!genuine(&keys, good, b"{}", SIGNED_AT));
        assert!(!genuine(&keys, &other_version, BODY, SIGNED_AT));
        assert!(!genuine(&keys, &late, BODY, SIGNED_AT));
        assert!(!genuine(&[], good, BODY, SIGNED_AT));
    }

    /// Two secrets while they rotate, either of which fits, and the asymmetric scheme; none passes for another.
    #[test]
    fn rotation_and_public_keys() {
        let body = br#"{"type":"call.completed","timestamp":"2026-01-15T10:35:00.000000Z","data":{"call_id":"call_01","outcome":"answered_human"}}"#;
        assert_eq!(body.len(), 123);
        let one = "v1,eSC4KANBCa2VPJ9IsnbsTJ++73nnQeD0nxD/2wgQ46Q=";
        let two = "v1,mkriuSiYQB3s6POz3FMpfFnSqIvsn7Y7vcj8jf/XAD4=";
        let asymmetric = "v1a,ELKLuBSurkMWui7dECX1iQE3zMVG9/YVDtuKic7VgWbEqrfK6jgTcU/dodMaVMPzX70JHEs33pQfrc3yTiELDw==";
        let first = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let second = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
        let public = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let genuine = |secret: &str, signature: &str, body: &[u8]| {
            let headers = Headers {
                id: Some("msg_01J8Z6W8Q2J6W1F3N5V7K9T0AB"),
                timestamp: Some("1768473300"),
                signature: Some(signature),
                ..Headers::default()
            };
            proof(&[key(secret)], headers, body, 1_768_473_300, 300).is_some()
        };
        assert!(genuine(first, one, body) && genuine(second, two, body) && genuine(public, asymmetric, body));
        let rotating = format!("{one} {two} {asymmetric}");
        assert!([first, second, public].into_iter().all(|secret| genuine(secret, &rotating, body)));
        assert!(!genuine(first, two, body) && !genuine(public, one, body) && !genuine(first, asymmetric, body));
        assert!(!genuine(public, asymmetric, b"{}"));
        assert_eq!(sign(first, "msg_01J8Z6W8Q2J6W1F3N5V7K9T0AB", 1_768_473_300, body).as_deref(), Some(one));
        assert!(sign(public, "msg_1", 0, body).is_none() && sign("sixteen bytes !!", "msg_1", 0, body).is_none());
    }

    fn hex_of(key: &[u8], parts: &[&[u8]]) -> String {
        let mut mac = keyed(key).expect("a key");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// HMAC of the body in hex (RFC 4231, test case 3), with and without its prefix; half a byte is refused. It is bound to no time.
    #[test]
    fn hex_of_the_body_proves_no_time() {
        let keys = [WebhookKey::Hex(vec![0xaa; 20])];
        let (body, hex) = ([0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
        let prefixed = format!("sha256={hex}");
        for (given, proven) in
            [(hex, Some(Proof::AnyTime)), (&prefixed, Some(Proof::AnyTime)), (&hex[1..], None), ("", None)]
        {
            let headers = Headers { hex: Some(given), ..Headers::default() };
            assert_eq!(proof(&keys, headers, &body, 0, 300), proven, "{given}");
        }
    }

    /// With a time beside it that is signed too, it proves that; a signature of the body alone, or of another time, does not.
    #[test]
    fn hex_of_time_and_body_proves_both() {
        let text = "sixteen bytes !!";
        let keys = [key(text)];
        let signed = format!("sha256={}", hex_of(text.as_bytes(), &[b"1768473300", b".", b"{}"]));
        let of_the_body = hex_of(text.as_bytes(), &[b"{}"]);
        for (hex, timestamp, now, proven) in [
            (&signed, "1768473300", 1_768_473_300, Some(Proof::Now { id: None })),
            (&signed, "1768473300", 1_768_473_601, None),
            (&signed, "1768473301", 1_768_473_300, None),
            (&of_the_body, "1768473300", 1_768_473_300, Some(Proof::AnyTime)),
        ] {
            let headers = Headers { hex: Some(hex), hex_timestamp: Some(timestamp), ..Headers::default() };
            assert_eq!(proof(&keys, headers, b"{}", now, 300), proven, "{hex} {timestamp} {now}");
        }
    }

    /// The text of a key of one scheme is no key of another: a public one, which everybody knows, signs nothing.
    #[test]
    fn no_text_is_a_key_of_two_schemes() {
        for text in ["whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", SECRET] {
            let hex = hex_of(text.as_bytes(), &[BODY]);
            let timed = hex_of(text.as_bytes(), &[b"1649367553", b".", BODY]);
            for headers in [
                Headers { hex: Some(&hex), ..Headers::default() },
                Headers { hex: Some(&timed), hex_timestamp: Some("1649367553"), ..Headers::default() },
            ] {
                assert_eq!(proof(&[key(text)], headers, BODY, SIGNED_AT, 300), None, "{text}");
            }
        }
        // Base64 without its prefix is a text like any other.
        let bare = SECRET.trim_start_matches("whsec_");
        assert_eq!(
            proof(&[key(bare)], headers("v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="), BODY, SIGNED_AT, 300),
            None
        );
    }

    /// A token opens its own attempt only.
    #[test]
    fn tokens_fit_one_attempt() {
        let (one, other) = (AttemptId(uuid::Uuid::from_u128(1)), AttemptId(uuid::Uuid::from_u128(2)));
        let made = token(b"key", one);
        assert!(is_our_token(b"key", one, &made));
        assert!(!is_our_token(b"key", other, &made));
        assert!(!is_our_token(b"other", one, &made));
        assert!(!is_our_token(b"", one, &token(b"", one)));
    }
}
