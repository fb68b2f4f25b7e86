//! What Ultravox says of a call: joined, ended, billed. Signed as hex HMAC-SHA256 over the body, then the time, nothing between;
//! the key is the secret's text; one signature for each secret, separated by commas (docs: "Securing webhooks").
//!
//! The time is ISO 8601, with or without an offset (naive means UTC), and goes into the signature as it came, never re-formatted.

use chrono::{DateTime, NaiveDateTime, Utc};
use hmac::Mac;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::Causes;
use crate::domain::ids::{AttemptId, CallId};
use crate::domain::word::{Ended, Record, Weight, Word};
use crate::provider::webhook::{Error, Report, error};
use crate::provider::{causes, signature};

/// The headers that carry signature and time, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `X-Ultravox-Webhook-Timestamp`
    pub timestamp: Option<&'a str>,
    /// `X-Ultravox-Webhook-Signature`
    pub signature: Option<&'a str>,
}

/// Whether one of the secrets signed this body, not too long ago.
#[must_use]
pub fn is_genuine(
    secrets: &[SecretString],
    headers: Headers<'_>,
    body: &[u8],
    now: DateTime<Utc>,
    tolerance_secs: u64,
) -> bool {
    let (Some(timestamp), Some(signature)) = (headers.timestamp, headers.signature) else {
        return false;
    };
    let is_recent = time(timestamp).is_some_and(|at| (now - at).num_seconds().unsigned_abs() <= tolerance_secs);
    let entries = signature.split(',').take(signature::ENTRIES_MAX);
    let given: Vec<Vec<u8>> = entries.filter_map(|one| signature::from_hex(one.trim())).collect();
    let fits = |secret: &SecretString| {
        signature::keyed(secret.expose_secret().as_bytes()).is_some_and(|mut mac| {
            mac.update(body);
            mac.update(timestamp.as_bytes());
            given.iter().any(|given| mac.clone().verify_slice(given).is_ok())
        })
    };
    is_recent && secrets.iter().any(fits)
}

/// A time of theirs: with `Z`, an offset, or neither, which means UTC.
#[must_use]
pub fn time(text: &str) -> Option<DateTime<Utc>> {
    let with_offset = DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc));
    with_offset.or_else(|_| text.parse::<NaiveDateTime>().map(|at| at.and_utc())).ok()
}

/// The fields of their `Call` that are read. There is no status: it follows from what has happened.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    pub call_id: String,
    pub join_url: Option<String>,
    pub joined: Option<String>,
    pub ended: Option<String>,
    pub end_reason: Option<String>,
    pub billed_duration: Option<String>,
    pub billing_status: Option<String>,
    pub short_summary: Option<String>,
    pub summary: Option<String>,
    #[serde(default)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    pub sip_details: Option<SipDetails>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SipDetails {
    pub termination_reason: Option<String>,
}

impl Call {
    fn named(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(key)?.as_str()
    }

    /// Our attempt's id, which we gave it.
    #[must_use]
    pub fn attempt_id(&self) -> Option<AttemptId> {
        self.named("attempt_id")?.parse().ok()
    }

    /// Our call's id, which we gave it.
    #[must_use]
    pub fn our_call_id(&self) -> Option<CallId> {
        self.named("call_id")?.parse().ok()
    }

    /// Whether we dial the phone ourselves and connect it to this call: then its mere existence says nothing about a phone.
    #[must_use]
    pub fn waits_for_our_dial(&self) -> bool {
        self.named("dials") == Some("telnyx")
    }

    /// How it stands, as a word; none: it waits for our dial still.
    #[must_use]
    pub fn word(&self, causes: &Causes) -> Option<Word> {
        match (&self.ended, &self.joined) {
            (Some(_), None) if self.waits_for_our_dial() => {
                Some(Word::Lapsed { hangup_cause: self.end_reason.clone().unwrap_or_else(|| "unjoined".to_owned()) })
            }
            (Some(_), _) => Some(Word::Ended(self.end(causes))),
            (None, Some(_)) => Some(Word::Started),
            (None, None) if self.waits_for_our_dial() => None,
            (None, None) => {
                Some(Word::Accepted { provider_call_id: Some(self.call_id.clone()), carrier_call_id: None })
            }
        }
    }

    fn end(&self, causes: &Causes) -> Ended {
        let sip = self.sip_details.as_ref().and_then(|sip| sip.termination_reason.as_deref());
        let sip = sip.filter(|reason| causes.ultravox.contains_key(&reason.to_ascii_lowercase()));
        let reason = sip.or(self.end_reason.as_deref());
        let weight = if sip.is_some() { Weight::Cause } else { Weight::Status };
        Ended {
            provider_call_id: Some(self.call_id.clone()),
            hangup_cause: reason.map(str::to_owned),
            duration_secs: self.talked_secs(),
            ..Ended::of(causes::agent(causes, reason, self.joined.is_some()), weight)
        }
    }

    /// Seconds from joining to the end, begun ones counted whole; 0 when nobody joined.
    fn talked_secs(&self) -> Option<i32> {
        let Some(joined) = &self.joined else { return Some(0) };
        let talked = time(self.ended.as_deref()?)? - time(joined)?;
        i32::try_from((talked.num_milliseconds() + 999) / 1000).ok().map(|secs| secs.max(0))
    }

    /// What it has on record: billing, and the summary once it is written. The transcript is fetched apart.
    #[must_use]
    pub fn record(&self, transcript: Option<String>) -> Record {
        let status = self.billing_status.as_deref().unwrap_or("BILLING_STATUS_PENDING");
        let is_billed = !matches!(status, "BILLING_STATUS_PENDING" | "BILLING_STATUS_UNSPECIFIED");
        let nothing = status == "BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION" || self.joined.is_none();
        let billed =
            self.billed_duration.as_deref().and_then(whole_secs).or(nothing.then_some(0)).filter(|_| is_billed);
        let summary = self.summary.clone().or_else(|| self.short_summary.clone()).filter(|text| !text.is_empty());
        let complete = billed.is_some() && (self.joined.is_none() || (summary.is_some() && transcript.is_some()));
        Record { billed_secs: billed, transcript, summary, complete }
    }
}

/// A duration as protobuf writes it (`12.5s`), begun seconds counted whole.
fn whole_secs(text: &str) -> Option<i32> {
    let secs: f64 = text.strip_suffix('s')?.parse().ok()?;
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "checked to be within a day")]
    (0.0..=86_400.0).contains(&secs).then(|| secs.ceil() as i32)
}

#[derive(Debug, Deserialize)]
struct Event {
    event: String,
    call: Call,
}

/// Reads an event; none: one that says nothing we do not know, or that we do not know.
///
/// # Errors
/// It is no event of theirs.
pub fn read(body: &[u8], causes: &Causes) -> Result<Option<Report>, Error> {
    let Event { event, call } =
        serde_json::from_slice(body).map_err(|fault| error("event", format!("is no event of Ultravox: {fault}")))?;
    if call.call_id.is_empty() {
        return Err(error("call.callId", "is needed"));
    }
    let word = match event.as_str() {
        "call.joined" => Some(Word::Started),
        // The line to the phone may be up still: whether it is, is asked before the call is over.
        "call.ended" if call.waits_for_our_dial() => Some(Word::OneSideOver { by_carrier: false, hangup_cause: None }),
        "call.ended" => call.word(causes),
        "call.billed" => Some(Word::Recorded(Record { complete: false, ..call.record(None) })),
        // call.started says what the answer to our request said; others we do not know.
        _ => None,
    };
    Ok(word.map(|word| Report {
        attempt_id: call.attempt_id(),
        at: call.ended.as_deref().and_then(time).filter(|_| event == "call.ended"),
        key: Some(format!("ultravox:{}:{event}", call.call_id)),
        provider_call_id: Some(call.call_id),
        word,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::disposition::Disposition;

    const ENDED: &str = r#"{"event":"call.ended","call":{"callId":"3c90c3cc-0d44-4b50-8888-8dd25736052a","created":"2026-01-15T10:30:00Z","joined":null,"ended":"2026-01-15T10:30:31Z","endReason":"unjoined","metadata":{"attempt_id":"att_01"}}}"#;
    const AT: &str = "2026-01-15T10:30:32.123456+00:00";
    const OLD: &str = "d070e371e2c6c5f0513563b8a23baf25dd0e1be5d85988ef067aa62d5192d73f";
    const NEW: &str = "04759906aedfb4a4fd80ce5ec2716d67f2699eece8e43e8f3cdf0cba477e0dfb";

    fn genuine(secret: &str, at: &str, signature: &str, body: &str) -> bool {
        let headers = Headers { timestamp: Some(at), signature: Some(signature) };
        let now = time(AT).expect("a time");
        is_genuine(&[SecretString::from(secret)], headers, body.as_bytes(), now, 60)
    }

    /// Old and new secret, both while they rotate, naive time, empty body, UTF-8.
    #[test]
    fn signature_vectors() {
        let (old, new) = ("uvx-old-secret-0123456789", "uvx-new-secret-9876543210");
        assert_eq!(ENDED.len(), 215);
        assert!(genuine(old, AT, OLD, ENDED) && genuine(new, AT, NEW, ENDED));
        let rotating = format!("{OLD},{NEW}");
        assert!(genuine(old, AT, &rotating, ENDED) && genuine(new, AT, &rotating, ENDED));
        assert!(genuine(new, AT, &format!("{OLD} , {NEW}"), ENDED));
        let naive = "48abd408f09ac21c77a3c0163b2e995547e9a23368c0b3b78873b6597db7c6f1";
        assert!(genuine(new, "2026-01-15T10:30:32.123456", naive, ENDED));
        let empty = "4c232d8716d0b22b7467b3a00ca5dce89e31cafce61b0532d59bea83eaa57c28";
        assert!(genuine(new, AT, empty, ""));
        let utf8 = "4a8b5312d415a10a4efe55e6d3b2893c56a6d968e0dac9235c4e855dc4c3ec2d";
        let body = r#"{"event":"call.started","call":{"callId":"c","metadata":{"name":"Zoë ☎"}}}"#;
        assert!(genuine(new, AT, utf8, body));
    }

    /// Everything that must not pass: the schemes it is easily mistaken for, another time format, a stale time, no secret.
    #[test]
    fn wrong_schemes_are_refused() {
        let new = "uvx-new-secret-9876543210";
        for (what, wrong) in [
            ("time.body", "d90f9a5532f876d1da5b6e647621d669fa23933e7cfa66dbc2362b8c7f903dc0"),
            ("time first", "312df73ccdca591eff83b0516f2edc50d2e6c383b425ada3fa2c530482523447"),
            ("re-serialised body", "18233edc8e084e10294f2cf28369814687b77f0ccb31748ae219532af6172399"),
            ("the data connection's", "e695455036109205c120048d3bcc31ba86cefb703ed252b74354699249285251"),
            ("nothing", ""),
            ("half a byte", &NEW[1..]),
        ] {
            assert!(!genuine(new, AT, wrong, ENDED), "{what}");
        }
        // The same instant in other letters is other bytes.
        assert!(!genuine(new, "2026-01-15T10:30:32.123456Z", NEW, ENDED));
        assert!(!genuine("", AT, NEW, ENDED));
        let headers = Headers { timestamp: Some(AT), signature: Some(NEW) };
        let secrets = [SecretString::from(new)];
        let later = |secs| time(AT).expect("a time") + chrono::TimeDelta::seconds(secs);
        assert!(is_genuine(&secrets, headers, ENDED.as_bytes(), later(60), 60));
        assert!(!is_genuine(&secrets, headers, ENDED.as_bytes(), later(61), 60));
        assert!(!is_genuine(&[], headers, ENDED.as_bytes(), later(0), 60));
        assert!(!is_genuine(&secrets, Headers { timestamp: None, ..headers }, ENDED.as_bytes(), later(0), 60));
    }

    /// The data connection signs otherwise (id, then time): made of the same parts, and no webhook passes with it.
    #[test]
    fn the_data_connection_signs_otherwise() {
        let at = "2026-01-15T10:30:05.000000+00:00";
        let mut mac = signature::keyed(b"your-secret-at-least-16-chars").expect("a key");
        mac.update(b"3c90c3cc-0d44-4b50-8888-8dd25736052a");
        mac.update(at.as_bytes());
        let theirs = "e695455036109205c120048d3bcc31ba86cefb703ed252b74354699249285251";
        assert_eq!(signature::from_hex(theirs).as_deref(), Some(mac.finalize().into_bytes().as_slice()));
        assert!(!genuine("your-secret-at-least-16-chars", at, theirs, ENDED));
    }

    #[test]
    fn reads_an_end() {
        let report = read(ENDED.as_bytes(), &Causes::shipped()).expect("read").expect("a word");
        let Word::Ended(ended) = report.word else { panic!("an end") };
        assert_eq!((ended.disposition, ended.duration_secs), (Disposition::NoAnswer, Some(0)));
        assert_eq!(ended.hangup_cause.as_deref(), Some("unjoined"));
        assert_eq!(report.key.as_deref(), Some("ultravox:3c90c3cc-0d44-4b50-8888-8dd25736052a:call.ended"));
    }

    /// The same end of a call that waited for our own dial is no evidence that a phone was dialed.
    #[test]
    fn a_call_that_waited_for_our_dial_lapses() {
        let body = ENDED.replace(r#""attempt_id":"att_01""#, r#""dials":"telnyx""#);
        let report = read(body.as_bytes(), &Causes::shipped()).expect("read").expect("a word");
        assert_eq!(report.word, Word::OneSideOver { by_carrier: false, hangup_cause: None });
        let call = serde_json::from_str::<Event>(&body).expect("an event").call;
        assert_eq!(call.word(&Causes::shipped()), Some(Word::Lapsed { hangup_cause: "unjoined".to_owned() }));
    }

    /// Nobody joined: the end says the same by whichever way the phone was dialed, whatever it is called.
    #[test]
    fn an_end_nobody_joined_means_the_same_both_ways() {
        for reason in ["unjoined", "hangup", "agent_hangup", "timeout"] {
            let body = ENDED.replace(r#""endReason":"unjoined""#, &format!(r#""endReason":"{reason}""#));
            let call = |body: &str| serde_json::from_str::<Event>(body).expect("an event").call;
            let Some(Word::Ended(ended)) = call(&body).word(&Causes::shipped()) else { panic!("an end") };
            assert_eq!(ended.disposition, Disposition::NoAnswer, "{reason}");
            // Which is NO_ANSWER too, where a phone may have been dialed: outcome/decide/tests.rs.
            let body = body.replace(r#""attempt_id":"att_01""#, r#""dials":"telnyx""#);
            assert_eq!(call(&body).word(&Causes::shipped()), Some(Word::Lapsed { hangup_cause: reason.to_owned() }));
        }
    }

    #[test]
    fn reads_talk_and_bill() {
        let call = |more: &str| {
            let body = format!(
                r#"{{"event":"call.billed","call":{{"callId":"c","joined":"2026-01-15T10:30:00Z","ended":"2026-01-15T10:30:30.200Z",{more}}}}}"#
            );
            serde_json::from_str::<Event>(&body).expect("an event").call
        };
        let hung_up = call(r#""endReason":"agent_hangup""#);
        let Some(Word::Ended(ended)) = hung_up.word(&Causes::shipped()) else { panic!("an end") };
        assert_eq!((ended.disposition, ended.duration_secs), (Disposition::Completed, Some(31)));
        let billed = call(r#""billedDuration":"35.5s","billingStatus":"BILLING_STATUS_BILLED","summary":"Talked.""#);
        let record = billed.record(Some("Agent: Hi".to_owned()));
        assert_eq!((record.billed_secs, record.complete), (Some(36), true));
        assert!(!billed.record(None).complete);
        for status in ["PENDING", "BILLED", "FREE_MINUTES"] {
            // Billed, they say, and not how much: what was measured stands until they do.
            let record = call(&format!(r#""billingStatus":"BILLING_STATUS_{status}""#)).record(None);
            assert_eq!((record.billed_secs, record.complete), (None, false), "{status}");
        }
        let free = call(r#""billingStatus":"BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION""#);
        assert_eq!(free.record(None).billed_secs, Some(0));
    }

    /// What is new to us is accepted and left alone.
    #[test]
    fn unknown_events_are_left_alone() {
        let event = |name: &str| {
            read(format!(r#"{{"event":"{name}","call":{{"callId":"c"}}}}"#).as_bytes(), &Causes::shipped())
        };
        assert!(event("call.transcribed").expect("read").is_none());
        assert!(event("call.started").expect("read").is_none());
        assert!(read(b"{}", &Causes::shipped()).is_err());
    }
}
