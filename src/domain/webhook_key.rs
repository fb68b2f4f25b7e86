//! A key that webhooks are signed with, of exactly one scheme: read once, at the start, from the text of a setting.
//!
//! **Invariant:** a text is a key of one scheme or none. A public key is never the key of a MAC, and nothing short is a key at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Fewer bytes could be guessed.
pub const KEY_BYTES_MIN: usize = 16;
const PUBLIC_KEY_BYTES: usize = 32;

/// The key and its scheme.
#[derive(Clone, PartialEq, Eq)]
pub enum WebhookKey {
    /// `whsec_…`, base64: HMAC-SHA256 by Standard Webhooks (`v1`).
    Standard(Vec<u8>),
    /// `whpk_…`, base64 of 32 bytes: ed25519 by Standard Webhooks (`v1a`).
    Public(Vec<u8>),
    /// Any other text: HMAC-SHA256 in hex, keyed by the text itself.
    Hex(Vec<u8>),
}

impl std::fmt::Debug for WebhookKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Standard(_) => "WebhookKey::Standard",
            Self::Public(_) => "WebhookKey::Public",
            Self::Hex(_) => "WebhookKey::Hex",
        })
    }
}

impl WebhookKey {
    /// # Errors
    /// What is wrong with the text, without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let decoded =
            |rest: &str| STANDARD.decode(rest).map_err(|_| "what follows the prefix is not base64".to_owned());
        if let Some(rest) = text.strip_prefix("whpk_") {
            let key = decoded(rest)?;
            return if key.len() == PUBLIC_KEY_BYTES {
                Ok(Self::Public(key))
            } else {
                Err(format!("a public key (whpk_) has {PUBLIC_KEY_BYTES} bytes, not {}", key.len()))
            };
        }
        let key = match text.strip_prefix("whsec_") {
            Some(rest) => Self::Standard(decoded(rest)?),
            None => Self::Hex(text.as_bytes().to_vec()),
        };
        let (Self::Standard(bytes) | Self::Public(bytes) | Self::Hex(bytes)) = &key;
        is_long(bytes).map(|()| key)
    }
}

/// # Errors
/// It is so short that it could be guessed.
pub fn is_long(key: &[u8]) -> Result<(), String> {
    if key.len() < KEY_BYTES_MIN {
        Err(format!("must have at least {KEY_BYTES_MIN} bytes, not {}", key.len()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_key_of_one_scheme() {
        let public = format!("whpk_{}", STANDARD.encode([7; 32]));
        let standard = format!("whsec_{}", STANDARD.encode([7; 24]));
        assert_eq!(WebhookKey::parse(&public), Ok(WebhookKey::Public(vec![7; 32])));
        assert_eq!(WebhookKey::parse(&standard), Ok(WebhookKey::Standard(vec![7; 24])));
        assert_eq!(WebhookKey::parse("sixteen bytes !!"), Ok(WebhookKey::Hex(b"sixteen bytes !!".to_vec())));
    }

    /// (The version before accepted each of them: as an empty key, as a key of a few bytes, or as the text itself.)
    #[test]
    fn what_is_short_or_malformed_is_no_key() {
        let short_public = format!("whpk_{}", STANDARD.encode([7; 31]));
        let short = format!("whsec_{}", STANDARD.encode([7; 15]));
        for text in [
            "",
            "a",
            "fifteen bytes !",
            "whsec_",
            "whpk_",
            "whsec_***",
            "whpk_not base64 at all",
            &short_public,
            &short,
        ] {
            let error = WebhookKey::parse(text).expect_err(text);
            assert!(text.len() < 6 || !error.contains(text), "{error}");
        }
    }
}
