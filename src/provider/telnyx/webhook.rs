//! What Telnyx says: JSON events of Call Control, and the form of TeXML callbacks for calls that Ultravox dials.
//!
//! Signed by ed25519 over `timestamp|body`, the raw bytes (their SDK's `webhook_verification`). Events come unordered and doubled;
//! names come with dots or underscores. What is not about the end or the beginning of a call is accepted and left alone.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Causes;
use crate::domain::word::Word;
use crate::provider::causes;
use crate::provider::telnyx::{attempt_of, refusals_in, texml_leg};
use crate::provider::webhook::{Error, Report, error};

/// The cause of an attempt whose phone was answered and never connected to the agent.
pub const STREAMING_FAILED: &str = "streaming.failed";

/// The headers that carry signature and time, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `telnyx-timestamp`, Unix seconds
    pub timestamp: Option<&'a str>,
    /// `telnyx-signature-ed25519`, base64
    pub signature: Option<&'a str>,
}

/// Whether the holder of this public key (base64 of 32 bytes) signed this body, not too long ago.
#[must_use]
pub fn is_genuine(public_key: &str, headers: Headers<'_>, body: &[u8], now_unix: i64, tolerance_secs: u64) -> bool {
    let (Some(timestamp), Some(signature)) = (headers.timestamp, headers.signature) else {
        return false;
    };
    let Ok(signed_at) = timestamp.parse::<i64>() else {
        return false;
    };
    let (Ok(key), Ok(signature)) = (STANDARD.decode(public_key.trim()), STANDARD.decode(signature)) else {
        return false;
    };
    let message = [timestamp.as_bytes(), b"|", body].concat();
    signed_at.abs_diff(now_unix) <= tolerance_secs
        && UnparsedPublicKey::new(&ED25519, &key).verify(&message, &signature).is_ok()
}

/// An event in its envelope, or bare: both shapes are documented.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Envelope {
    Wrapped { data: Event },
    Flat(Event),
}

/// Its id and its time have other names where it is bare.
#[derive(Debug, Deserialize)]
struct Event {
    event_type: String,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    webhook_id: Value,
    #[serde(default)]
    occurred_at: Value,
    #[serde(default)]
    created_at: Value,
    #[serde(default)]
    payload: Value,
}

/// Reads a JSON event; none: an event that says nothing about beginning or end.
///
/// # Errors
/// It is no event of theirs.
pub fn read(body: &[u8], causes: &Causes) -> Result<Option<Report>, Error> {
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|fault| error("data", format!("is no event of Call Control: {fault}")))?;
    let (Envelope::Wrapped { data } | Envelope::Flat(data)) = envelope;
    let payload = &data.payload;
    let field = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
    let leg = field("call_control_id");
    let kind = data.event_type.replace('_', ".");
    let word = match kind.as_str() {
        "call.initiated" => Some(Word::Accepted { provider_call_id: None, carrier_call_id: leg.clone() }),
        "call.answered" => Some(Word::Started),
        "call.hangup" => {
            let (cause, sip) = (field("hangup_cause"), field("sip_hangup_cause"));
            Some(causes::carrier(causes, cause.as_deref(), sip.as_deref(), &refusals_in(payload)))
        }
        // `call.machine.detection.ended`, and what machine detection of other kinds puts in between.
        kind if kind.starts_with("call.machine.") && kind.ends_with(".ended") => {
            field("result").and_then(|heard| causes::machine(causes, &heard.to_ascii_lowercase()))
        }
        // Somebody has answered and hears nothing: asked about at once, it is hung up (`told_by` in ultravox/mod.rs).
        "streaming.failed" => {
            Some(Word::OneSideOver { by_carrier: true, hangup_cause: Some(STREAMING_FAILED.to_owned()) })
        }
        _ => None,
    };
    let at = data.occurred_at.as_str().or(data.created_at.as_str());
    let id = data.id.as_str().or(data.webhook_id.as_str());
    Ok(word.map(|word| Report {
        attempt_id: field("client_state").as_deref().and_then(attempt_of),
        provider_call_id: leg,
        word,
        at: at.and_then(|at| at.parse::<DateTime<Utc>>().ok()),
        key: id.map(|id| format!("telnyx:{id}")),
    }))
}

/// Reads the form of a TeXML callback; none: a status that says nothing new. Whose it is, the URL says.
///
/// # Errors
/// There is no `CallStatus`.
pub fn read_form(body: &[u8], causes: &Causes) -> Result<Option<Report>, Error> {
    let fields: BTreeMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| fields.get(name).filter(|text| !text.is_empty()).cloned();
    let status = field("CallStatus").ok_or_else(|| error("CallStatus", "is needed"))?.to_ascii_lowercase();
    let (sid, cause, sip) = (field("CallSid"), field("HangupCause"), field("SipHangupCause"));
    let leg = sid.as_deref().map(|sid| field("AccountSid").map_or(sid.to_owned(), |account| texml_leg(&account, sid)));
    let heard = field("AnsweredBy").and_then(|heard| causes::machine(causes, &heard));
    let word = match status.as_str() {
        "queued" | "initiated" | "ringing" => Some(Word::Accepted { provider_call_id: None, carrier_call_id: leg }),
        "in-progress" | "answered" => heard.or(Some(Word::Started)),
        "completed" => {
            heard.or(Some(Word::OneSideOver { by_carrier: true, hangup_cause: cause.or(Some(status.clone())) }))
        }
        _ if cause.is_some() => {
            let refusals = refusals_in(&json!(fields));
            Some(causes::carrier(causes, cause.as_deref(), sip.as_deref(), &refusals))
        }
        _ => causes::texml(causes, &status),
    };
    let key = match (&sid, field("SequenceNumber")) {
        (Some(sid), Some(number)) => Some(format!("texml:{sid}:{number}:{status}")),
        _ => None,
    };
    Ok(word.map(|word| Report { attempt_id: None, provider_call_id: sid, word, at: None, key }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::disposition::Disposition;

    const PUBLIC_KEY: &str = "ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=";
    const HANGUP: &str = r#"{"data":{"record_type":"event","event_type":"call.hangup","id":"0ccc7b54-4df3-4bca-a65a-3da1ecc777f0","occurred_at":"2026-01-15T10:30:31.000000Z","payload":{"call_control_id":"v3:fake-ccid","call_leg_id":"428c31b6-7af4-4bcb-b7f5-5013ef9657c1","call_session_id":"428c31b6-abf3-3bc1-b7f4-5013ef9657c1","client_state":"YXR0XzAx","connection_id":"1684641123236054244","from":"+12025550133","to":"+12025550131","start_time":"2026-01-15T10:30:00.000000Z","state":"hangup","hangup_cause":"user_busy","hangup_source":"callee","sip_hangup_cause":"486"}},"meta":{"attempt":1,"delivered_to":"https://dialer.example/webhooks/telnyx"}}"#;
    const FORM: &str = "AccountSid=f5586561-8ff0-4291-a51b-c7dfe4139ff9&CallSid=v3%3Afake-ccid&CallStatus=no-answer&CallbackSource=call-progress-events&From=%2B12025550133&To=%2B12025550131&SequenceNumber=3&HangupCause=no_answer&HangupSource=unknown&SipHangupCause=480&Timestamp=2026-01-15T10%3A30%3A31Z";
    const SIGNED_AT: i64 = 1_768_473_031;
    const HANGUP_SIGNATURE: &str =
        "1O5FB+TfPQq0Qb1YECssm7I7tqY4ZGoD/+X26y6x5+wj/JBEhOfe6elxgUtgN4aK61bt1IAUeUBETX0yE9b6DA==";
    const FORM_SIGNATURE: &str =
        "wfUO0JH4owzD869+1BLd8/hhfs4BdkIES8cNdCntmmwji4qwXfwV7V0xcM0Rg1XP48T01C0wIAqPvTbgZqJfBg==";

    fn genuine(signature: &str, timestamp: &str, body: &str) -> bool {
        let headers = Headers { timestamp: Some(timestamp), signature: Some(signature) };
        is_genuine(PUBLIC_KEY, headers, body.as_bytes(), SIGNED_AT, 300)
    }

    /// Both vectors verify. Another second, another byte, no header, a stale or unreadable time and a foreign key do not; nor does
    /// what other senders sign: the body alone, `timestamp.body`, `id.timestamp.body`.
    #[test]
    fn signature_vectors() {
        assert_eq!((HANGUP.len(), FORM.len()), (622, 279));
        assert!(genuine(HANGUP_SIGNATURE, "1768473031", HANGUP));
        assert!(genuine(FORM_SIGNATURE, "1768473031", FORM));
        assert!(!genuine(HANGUP_SIGNATURE, "1768473032", HANGUP));
        assert!(!genuine(HANGUP_SIGNATURE, "1768473031", &HANGUP.replace("486", "487")));
        assert!(!genuine(FORM_SIGNATURE, "1768473031", HANGUP));
        assert!(!genuine("", "1768473031", HANGUP));
        assert!(!genuine(HANGUP_SIGNATURE, "2026-01-15T10:30:31Z", HANGUP));
        let headers = Headers { timestamp: Some("1768473031"), signature: Some(HANGUP_SIGNATURE) };
        assert!(is_genuine(PUBLIC_KEY, headers, HANGUP.as_bytes(), SIGNED_AT + 300, 300));
        assert!(!is_genuine(PUBLIC_KEY, headers, HANGUP.as_bytes(), SIGNED_AT + 301, 300));
        let other = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        assert!(!is_genuine(other, headers, HANGUP.as_bytes(), SIGNED_AT, 300));
        assert!(!is_genuine("", headers, HANGUP.as_bytes(), SIGNED_AT, 300));
        assert!(!is_genuine(PUBLIC_KEY, Headers::default(), HANGUP.as_bytes(), SIGNED_AT, 300));
        let seed: Vec<u8> = (1..=32).collect();
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key");
        for wrong in [HANGUP.to_owned(), format!("1768473031.{HANGUP}"), format!("x.1768473031.{HANGUP}")] {
            assert!(!genuine(&STANDARD.encode(pair.sign(wrong.as_bytes())), "1768473031", HANGUP));
        }
        let right = pair.sign(format!("1768473031|{HANGUP}").as_bytes());
        assert_eq!(STANDARD.encode(right), HANGUP_SIGNATURE);
    }

    /// A busy callee is busy; the leg, the cause and the event's id are kept.
    #[test]
    fn reads_a_hangup() {
        let report = read(HANGUP.as_bytes(), &Causes::shipped()).expect("read").expect("a word");
        let Word::Ended(ended) = report.word else { panic!("an end") };
        assert_eq!((ended.disposition, ended.hangup_cause.as_deref()), (Disposition::Busy, Some("user_busy/486")));
        assert_eq!(report.provider_call_id.as_deref(), Some("v3:fake-ccid"));
        assert_eq!(report.key.as_deref(), Some("telnyx:0ccc7b54-4df3-4bca-a65a-3da1ecc777f0"));
        // Not an id of ours: the URL says whose it is.
        assert_eq!(report.attempt_id, None);
    }

    #[test]
    fn reads_a_form() {
        let report = read_form(FORM.as_bytes(), &Causes::shipped()).expect("read").expect("a word");
        let Word::Ended(ended) = report.word else { panic!("an end") };
        assert_eq!((ended.disposition, ended.hangup_cause.as_deref()), (Disposition::NoAnswer, Some("no_answer/480")));
        assert_eq!(report.key.as_deref(), Some("texml:v3:fake-ccid:3:no-answer"));
        assert_eq!(read_form(b"a=b", &Causes::shipped()).expect_err("no status").field, "CallStatus");
    }

    /// Underscored names, machines, and events that say nothing of ours.
    #[test]
    fn reads_other_events() {
        let event = |kind: &str, payload: &str| {
            let body = format!(r#"{{"data":{{"event_type":"{kind}","id":"x","payload":{payload}}}}}"#);
            read(body.as_bytes(), &Causes::shipped()).expect("read").map(|report| report.word)
        };
        assert!(matches!(event("call_answered", "{}"), Some(Word::Started)));
        let told = event("call.machine.detection.ended", r#"{"result":"machine"}"#);
        assert!(matches!(told, Some(Word::Told { outcome }) if outcome.disposition == Disposition::Voicemail));
        assert_eq!(event("call.machine.detection.ended", r#"{"result":"not_sure"}"#), None);
        assert_eq!(event("call.cost", "{}"), None);
        assert_eq!(event("something.new", r#"{"client_state":null}"#), None);
        assert!(matches!(
            event("call.hangup", r#"{"hangup_cause":"normal_clearing"}"#),
            Some(Word::OneSideOver { .. })
        ));
        assert!(read(b"[]", &Causes::shipped()).is_err());
        assert!(read(b"{}", &Causes::shipped()).is_err());
        // Detection of other kinds, and a payload that is null.
        let told = event("call.machine.premium.ios_call_screening.ended", r#"{"result":"machine"}"#);
        assert!(matches!(told, Some(Word::Told { .. })));
        assert!(matches!(event("call.answered", "null"), Some(Word::Started)));
    }

    /// The same event without its envelope, under other names.
    #[test]
    fn reads_a_bare_event() {
        let body = r#"{"event_type":"call_hangup","webhook_id":"w1","created_at":"2026-01-15T10:30:31.000000Z","payload":{"call_control_id":"v3:x","client_state":null,"hangup_cause":"call_rejected","sip_hangup_cause":"403","hangup_reason":"Dialed number is not included in whitelisted countries: US D13"}}"#;
        let report = read(body.as_bytes(), &Causes::shipped()).expect("read").expect("a word");
        assert_eq!((report.key.as_deref(), report.at.is_some()), (Some("telnyx:w1"), true));
        let Word::Ended(ended) = report.word else { panic!("an end") };
        assert_eq!(ended.disposition, Disposition::Refused);
        // Both names at once.
        let both = body.replace(r#""webhook_id":"w1""#, r#""webhook_id":"w1","id":"e1","occurred_at":null"#);
        let report = read(both.as_bytes(), &Causes::shipped()).expect("read").expect("a word");
        assert_eq!((report.key.as_deref(), report.at.is_some()), (Some("telnyx:e1"), true));
        let form = b"CallStatus=failed&HangupCause=not_found&SipHangupCause=404&ErrorCode=D19";
        let report = read_form(form, &Causes::shipped()).expect("read").expect("a word");
        assert!(matches!(report.word, Word::TurnedAway { full: false, .. }), "{:?}", report.word);
    }
}
