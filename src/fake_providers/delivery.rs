//! How the fakes send their webhooks: signed in their own ways, repeated until they are taken, and badly on purpose.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::Ed25519KeyPair;
use sha2::Sha256;

use crate::fake_providers::World;

/// Repeats after the first delivery, as Ultravox documents them; the first after 30 s, then twice as long each.
const RETRIES: u32 = 10;
const FIRST_RETRY_SECS: f64 = 30.0;

/// Whose signature a webhook carries.
#[derive(Clone, Debug)]
pub(super) enum Signer {
    /// One signature for each secret.
    Ultravox(Vec<String>),
    Telnyx,
}

impl Signer {
    fn headers(&self, body: &[u8]) -> Vec<(&'static str, String)> {
        let now = Utc::now();
        match self {
            Self::Ultravox(secrets) => {
                // With an offset, as their sample has it, with Z, or naive, as their sample reads it.
                let at = match now.timestamp_micros() % 3 {
                    0 => now.to_rfc3339_opts(SecondsFormat::Micros, false),
                    1 => now.to_rfc3339_opts(SecondsFormat::Micros, true),
                    _ => now.naive_utc().format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
                };
                let signatures: Vec<String> = secrets.iter().map(|secret| hex_mac(secret, body, &at)).collect();
                vec![("X-Ultravox-Webhook-Timestamp", at), ("X-Ultravox-Webhook-Signature", signatures.join(","))]
            }
            Self::Telnyx => {
                let at = now.timestamp().to_string();
                let seed: Vec<u8> = (1..=32).collect();
                let signed = Ed25519KeyPair::from_seed_unchecked(&seed)
                    .map(|pair| STANDARD.encode(pair.sign(&[at.as_bytes(), b"|", body].concat())));
                vec![("telnyx-timestamp", at), ("telnyx-signature-ed25519", signed.unwrap_or_default())]
            }
        }
    }
}

fn hex_mac(secret: &str, body: &[u8], at: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(body);
    mac.update(at.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A webhook to be sent.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    pub url: String,
    /// Decides its fate, together with the seed.
    pub key: String,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    pub signer: Signer,
}

impl World {
    /// Sends a webhook in its own time, with whatever goes wrong.
    pub(super) fn send(&self, webhook: Webhook) {
        let world = self.clone();
        tokio::spawn(async move { world.deliver(&webhook).await });
    }

    async fn deliver(&self, webhook: &Webhook) {
        let manners = &self.manners;
        let luck = |purpose| self.dice(&webhook.key, purpose);
        if luck(10) < manners.undelivered {
            return;
        }
        if luck(11) < manners.delayed {
            // Later than what comes after it.
            self.pause(20.0 + f64::from(u32::try_from(luck(12)).unwrap_or_default())).await;
        }
        if luck(13) < manners.badly_signed && self.post(webhook, Some(b"tampered with")).await {
            self.account().badly_signed_taken += 1;
        }
        for _ in 0..if luck(14) < manners.doubled { 2 } else { 1 } {
            let mut wait = FIRST_RETRY_SECS;
            for _ in 0..=RETRIES {
                if self.post(webhook, None).await {
                    break;
                }
                tokio::time::sleep(self.secs(wait).max(Duration::from_millis(20))).await;
                wait *= 2.0;
            }
        }
    }

    /// Whether it was taken. `signed`: what the signature is made over, if not the body.
    async fn post(&self, webhook: &Webhook, signed: Option<&[u8]>) -> bool {
        let mut request = self.client.post(&webhook.url).header("content-type", webhook.content_type);
        for (name, value) in webhook.signer.headers(signed.unwrap_or(&webhook.body)) {
            request = request.header(name, value);
        }
        let sent = request.body(webhook.body.clone()).send().await;
        sent.is_ok_and(|answer| answer.status().is_success())
    }
}
