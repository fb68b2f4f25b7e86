//! Signatures of webhooks over the raw bytes, and the token in the URLs we hand out.
//!
//! Accepted on the generic routes: Standard Webhooks (`id.timestamp.body`, base64, several entries) and plain hex
//! HMAC-SHA256 of the body in `X-Webhook-Signature`. All comparisons take constant time.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, UnparsedPublicKey};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::domain::ids::AttemptId;

type HmacSha256 = Hmac<Sha256>;

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
    pub plain: Option<&'a str>,
}

/// Whether one of the secrets signed this body.
#[must_use]
pub fn is_genuine(
    secrets: &[SecretString],
    headers: Headers<'_>,
    body: &[u8],
    now_unix: i64,
    tolerance_secs: u64,
) -> bool {
    secrets.iter().any(|secret| {
        standard_webhooks(secret, headers, body, now_unix, tolerance_secs) || plain_hex(secret, headers, body)
    })
}

/// Standard Webhooks 1.0, symmetric (`v1`), or by a public key (`whpk_…`, `v1a`).
fn standard_webhooks(
    secret: &SecretString,
    headers: Headers<'_>,
    body: &[u8],
    now_unix: i64,
    tolerance_secs: u64,
) -> bool {
    let (Some(id), Some(timestamp), Some(signature)) = (headers.id, headers.timestamp, headers.signature) else {
        return false;
    };
    let Ok(signed_at) = timestamp.parse::<i64>() else {
        return false;
    };
    if signed_at.abs_diff(now_unix) > tolerance_secs || id.is_empty() || id.contains('.') {
        return false;
    }
    let entries = |version: &str| {
        let version = version.to_owned();
        signature.split(' ').filter_map(move |entry| STANDARD.decode(entry.strip_prefix(&version)?).ok())
    };
    if let Some(key) = secret.expose_secret().strip_prefix("whpk_") {
        let Ok(key) = STANDARD.decode(key) else {
            return false;
        };
        let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let key = UnparsedPublicKey::new(&ED25519, key);
        return entries("v1a,").any(|given| key.verify(&message, &given).is_ok());
    }
    let Some(mac) = standard_mac(secret.expose_secret(), id, timestamp, body) else {
        return false;
    };
    entries("v1,").any(|given| mac.clone().verify_slice(&given).is_ok())
}

/// The `webhook-signature` of a message by Standard Webhooks; none: the secret is not base64.
#[must_use]
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let mac = standard_mac(secret, id, &timestamp.to_string(), body)?;
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// `id.timestamp.body` under a secret of Standard Webhooks; none: the secret is not base64.
fn standard_mac(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Option<HmacSha256> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok()?;
    let mut mac = keyed(&key)?;
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

fn plain_hex(secret: &SecretString, headers: Headers<'_>, body: &[u8]) -> bool {
    let Some(given) = headers.plain else {
        return false;
    };
    let Some(given) = from_hex(given.strip_prefix("sha256=").unwrap_or(given)) else {
        return false;
    };
    let Some(mut mac) = keyed(secret.expose_secret().as_bytes()) else {
        return false;
    };
    mac.update(body);
    mac.verify_slice(&given).is_ok()
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

    fn headers<'a>(signature: &'a str) -> Headers<'a> {
        Headers {
            id: Some("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
            timestamp: Some("1649367553"),
            signature: Some(signature),
            plain: None,
        }
    }

    /// The vector of the Standard Webhooks project verifies, in a list too; a wrong byte, a stale time, another version do not.
    #[test]
    fn standard_webhooks_vector() {
        let secrets = [SecretString::from("whsec_AAAA"), SecretString::from(SECRET)];
        let good = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        let listed = format!("v1,AAAA {good}");
        let other_version = good.replace("v1,", "v2,");
        assert!(is_genuine(&secrets, headers(good), BODY, SIGNED_AT, 300));
        assert!(is_genuine(&secrets, headers(&listed), BODY, SIGNED_AT + 300, 300));
        assert!(!is_genuine(&secrets, headers(good), BODY, SIGNED_AT + 301, 300));
        assert!(!is_genuine(&secrets, headers(good), b"{}", SIGNED_AT, 300));
        assert!(!is_genuine(&secrets, headers(&other_version), BODY, SIGNED_AT, 300));
        assert!(!is_genuine(&[], headers(good), BODY, SIGNED_AT, 300));
        assert!(!is_genuine(&[SecretString::from("")], headers(good), BODY, SIGNED_AT, 300));
    }

    /// Two secrets while they rotate, either of which fits, and the asymmetric scheme; none passes for another.
    #[test]
    fn rotation_and_public_keys() {
        let body = br#"{"type":"call.completed","timestamp":"2026-01-15T10:35:00.000000Z","data":{"call_id":"call_01","outcome":"answered_human"}}"#;
        assert_eq!(body.len(), 123);
        let one = "v1,eSC4KANBCa2VPJ9IsnbsTJ++73nnQeD0nxD/2wgQ46Q=";
        let two = "v1,mkriuSiYQB3s6POz3FMpfFnSqIvsn7Y7vcj8jf/XAD4=";
        let asymmetric = "v1a,ELKLuBSurkMWui7dECX1iQE3zMVG9/YVDtuKic7VgWbEqrfK6jgTcU/dodMaVMPzX70JHEs33pQfrc3yTiELDw==";
        let first = SecretString::from("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let second = SecretString::from("whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=");
        let public = SecretString::from("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        let genuine = |secret: &SecretString, signature: &str, body: &[u8]| {
            let headers = Headers {
                id: Some("msg_01J8Z6W8Q2J6W1F3N5V7K9T0AB"),
                timestamp: Some("1768473300"),
                signature: Some(signature),
                plain: None,
            };
            is_genuine(std::slice::from_ref(secret), headers, body, 1_768_473_300, 300)
        };
        assert!(genuine(&first, one, body) && genuine(&second, two, body) && genuine(&public, asymmetric, body));
        let rotating = format!("{one} {two} {asymmetric}");
        assert!([&first, &second, &public].into_iter().all(|secret| genuine(secret, &rotating, body)));
        assert!(!genuine(&first, two, body) && !genuine(&public, one, body) && !genuine(&first, asymmetric, body));
        assert!(!genuine(&public, asymmetric, b"{}"));
        assert_eq!(
            sign(first.expose_secret(), "msg_01J8Z6W8Q2J6W1F3N5V7K9T0AB", 1_768_473_300, body).as_deref(),
            Some(one)
        );
    }

    /// Plain hex HMAC of the body (RFC 4231 test case 2), with and without its prefix; half a byte is refused.
    #[test]
    fn plain_hex_vector() {
        let secrets = [SecretString::from("Jefe")];
        let body = b"what do ya want for nothing?";
        let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let with = |plain| Headers { plain: Some(plain), ..Headers::default() };
        assert!(is_genuine(&secrets, with(hex), body, 0, 300));
        let prefixed = format!("sha256={hex}");
        assert!(is_genuine(&secrets, with(&prefixed), body, 0, 300));
        assert!(!is_genuine(&secrets, with(&hex[1..]), body, 0, 300));
        assert!(!is_genuine(&secrets, with(""), body, 0, 300));
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
