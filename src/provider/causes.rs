//! What a cause means. The table is data (`[causes]` in config.toml); here is the order in which it is read.

use std::collections::BTreeMap;

use crate::config::{Causes, Meaning};
use crate::domain::disposition::Disposition;
use crate::domain::word::{Ended, Outcome, Weight, Word, shortened};

fn listed<T: Copy>(table: &BTreeMap<String, T>, cause: &str) -> Option<T> {
    table.get(&cause.to_ascii_lowercase()).copied()
}

/// How a carrier's leg ended: by the carrier's own `refusals` (codes such as `D13`), where the leg may have been refused; then by
/// `hangup_cause/SIP code`, else by the cause, else by the code. What is not listed is no end by itself: `normal_clearing` may be a talk
/// or early media, and after a talk nothing unknown to us may have the person called again. Whether anybody was talked to, the agent's
/// side tells.
#[must_use]
pub fn carrier(causes: &Causes, cause: Option<&str>, sip: Option<&str>, refusals: &[String]) -> Word {
    let sip = sip.and_then(|text| text.split_whitespace().next());
    let code = sip.filter(|code| *code != "unspecified");
    let mut raw = match (cause, code) {
        (Some(cause), Some(code)) => Some(format!("{cause}/{code}")),
        (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
        (None, None) => None,
    };
    let by_cause = raw.as_deref().and_then(|both| listed(&causes.telnyx, both));
    let by_cause = by_cause.or_else(|| cause.and_then(|cause| listed(&causes.telnyx, cause)));
    let by_code = || code.filter(|_| cause != Some("normal_clearing")).and_then(|code| listed(&causes.sip, code));
    let may_be_refused = !cause.is_some_and(|cause| CONNECTED.contains(&cause));
    let refusal = refusals.iter().filter(|_| may_be_refused);
    let refusal = refusal.filter_map(|code| Some((code, listed(&causes.telnyx_dial, code)?))).next();
    if let Some((code, _)) = refusal {
        raw = Some(raw.map_or_else(|| code.clone(), |raw| format!("{raw} {code}")));
    }
    match refusal.map(|(_, meaning)| meaning).or(by_cause).or_else(by_code) {
        // The line was open; whether anybody was talked to, only the agent's side knows.
        Some(Meaning::Ends { disposition: Disposition::Completed, .. }) | None => {
            Word::OneSideOver { by_carrier: true, hangup_cause: raw.as_deref().map(shortened) }
        }
        Some(meaning) => word(meaning, raw),
    }
}

/// Causes of legs that a carrier did not refuse, whatever else stands beside them.
const CONNECTED: &[&str] = &["normal_clearing", "time_limit", "originator_cancel"];

/// What the first of these keys that is listed means for an answer to a dial: codes of refusals, `error code/pointer`,
/// `error code/HTTP status`, error codes.
#[must_use]
pub fn dial(causes: &Causes, keys: &[String]) -> Option<Meaning> {
    keys.iter().find_map(|key| listed(&causes.telnyx_dial, key))
}

/// How the carrier's call ended by its bare TeXML status; none: the status is no end, or says nothing of how.
#[must_use]
pub fn texml(causes: &Causes, status: &str) -> Option<Word> {
    listed(&causes.texml, status).map(|meaning| word(meaning, Some(status.to_owned())))
}

/// What machine detection heard, where that is a machine: it acts at the end of the call, unless the agent tells more.
#[must_use]
pub fn machine(causes: &Causes, heard: &str) -> Option<Word> {
    let disposition = listed(&causes.machine, heard)?;
    Some(Word::Told { outcome: Outcome { weight: Weight::Cause, ..Outcome::of(disposition) } })
}

/// How the agent's side ended: by its reason, else by whether anybody joined. Where nobody did, nobody was talked to.
#[must_use]
pub fn agent(causes: &Causes, reason: Option<&str>, joined: bool) -> Disposition {
    let fallback = if joined { Disposition::Completed } else { Disposition::Failed };
    match reason.and_then(|reason| listed(&causes.ultravox, reason)).unwrap_or(fallback) {
        Disposition::Completed if !joined => Disposition::NoAnswer,
        disposition => disposition,
    }
}

fn word(meaning: Meaning, raw: Option<String>) -> Word {
    let hangup_cause = raw.as_deref().map(shortened);
    match meaning {
        Meaning::TurnedAway { full, dials_max } => Word::TurnedAway { full, hangup_cause, dials_max },
        Meaning::Ends { disposition, dials_max } => {
            Word::Ended(Ended { hangup_cause, dials_max, ..Ended::of(disposition, Weight::Cause) })
        }
        Meaning::Barred { setting } => {
            tracing::error!(
                cause = raw,
                setting,
                "the carrier refuses the account, not the number: look at the setting"
            );
            Word::TurnedAway { full: false, hangup_cause, dials_max: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(cause: &str, sip: &str) -> Option<Disposition> {
        match carrier(&Causes::shipped(), Some(cause), Some(sip), &[]) {
            Word::Ended(ended) => Some(ended.disposition),
            _ => None,
        }
    }

    /// The shipped table: each cause Telnyx documents, and what it does not.
    #[test]
    fn the_shipped_table() {
        for (cause, sip, expected) in [
            ("user_busy", "486", Some(Disposition::Busy)),
            ("user_busy", "unspecified", Some(Disposition::Busy)),
            ("no_answer", "480", Some(Disposition::NoAnswer)),
            ("timeout", "487", Some(Disposition::NoAnswer)),
            // The agent may have given up long before.
            ("time_limit", "200", None),
            ("call_rejected", "603", Some(Disposition::Failed)),
            ("not_found", "404", Some(Disposition::WrongNumber)),
            ("originator_cancel", "487", Some(Disposition::Canceled)),
            ("unspecified", "486", Some(Disposition::Busy)),
            ("something_new", "404", Some(Disposition::WrongNumber)),
            // Nobody's phone rang, and it costs no attempt.
            ("unspecified", "503", None),
            ("call_rejected", "403", None),
            // No end by itself: it may come after a talk.
            ("something_new", "unspecified", None),
            ("unspecified", "418", None),
            ("normal_clearing", "200", None),
            ("normal_clearing", "486", None),
        ] {
            assert_eq!(disposition(cause, sip), expected, "{cause} {sip}");
        }
    }

    /// Every line of the report on their documents has an end of its own: none is left to the agent's patience.
    #[test]
    fn no_listed_end_stays_open() {
        let failed = |dials_max| (Some(Disposition::Failed), dials_max);
        for code in ["400", "405", "406", "413", "414", "415", "416", "420", "421", "488", "501", "505", "513", "606"] {
            assert_eq!(end("unspecified", code), failed(None), "{code}");
        }
        for code in ["603", "608"] {
            assert_eq!(end("unspecified", code), failed(Some(2)), "{code}");
            assert_eq!(end("call_rejected", code), failed(Some(2)), "{code}");
        }
        for (cause, code, expected) in [
            ("unspecified", "607", Disposition::Refused),
            ("unspecified", "485", Disposition::WrongNumber),
            ("call_rejected", "486", Disposition::Busy),
            ("call_rejected", "404", Disposition::WrongNumber),
            ("call_rejected", "480", Disposition::NoAnswer),
        ] {
            assert_eq!(end(cause, code), (Some(expected), None), "{cause} {code}");
        }
        for (cause, code, full, dials_max) in [
            ("unspecified", "482", false, None),
            ("unspecified", "483", false, None),
            ("unspecified", "491", false, None),
            ("unspecified", "504", false, None),
            ("unspecified", "580", false, None),
            ("call_rejected", "503", false, None),
            // The account; the log says so.
            ("unspecified", "401", false, None),
            ("unspecified", "402", false, None),
            ("unspecified", "407", false, None),
            // The channels, or the callee after all.
            ("call_rejected", "403", true, Some(3)),
            ("unspecified", "403", true, Some(3)),
        ] {
            let word = carrier(&Causes::shipped(), Some(cause), Some(code), &[]);
            let Word::TurnedAway { full: is_full, dials_max: max, .. } = word else {
                panic!("{cause} {code}: {word:?}")
            };
            assert_eq!((is_full, max), (full, dials_max), "{cause} {code}");
        }
    }

    fn end(cause: &str, sip: &str) -> (Option<Disposition>, Option<i16>) {
        match carrier(&Causes::shipped(), Some(cause), Some(sip), &[]) {
            Word::Ended(ended) => (Some(ended.disposition), ended.dials_max),
            _ => (None, None),
        }
    }

    /// The carrier's own code goes before the cause it comes with, and is kept; beside a leg that was connected it says nothing.
    #[test]
    fn the_carriers_own_code_goes_first() {
        let of = |cause: &str, sip: &str, code: &str| {
            carrier(&Causes::shipped(), Some(cause), Some(sip), &[code.to_owned()])
        };
        let Word::Ended(ended) = of("call_rejected", "403", "D13") else { panic!("an end") };
        assert_eq!(
            (ended.disposition, ended.hangup_cause.as_deref()),
            (Disposition::Refused, Some("call_rejected/403 D13"))
        );
        for code in ["D8", "D14", "D50", "D59"] {
            let Word::Ended(ended) = of("not_found", "404", code) else { panic!("an end") };
            assert_eq!(ended.disposition, Disposition::Refused, "{code}");
        }
        // Unpaid, switched off, without a route: not the number.
        for code in ["D18", "D19", "D40"] {
            assert!(matches!(of("not_found", "404", code), Word::TurnedAway { full: false, .. }), "{code}");
        }
        assert!(matches!(of("call_rejected", "403", "D1"), Word::TurnedAway { full: true, dials_max: None, .. }));
        assert!(matches!(of("call_rejected", "403", "D99"), Word::TurnedAway { full: true, dials_max: Some(3), .. }));
        assert!(matches!(of("normal_clearing", "200", "D13"), Word::OneSideOver { .. }));
    }

    /// Where nobody has joined, nobody was talked to, whatever the agent's side calls its end.
    #[test]
    fn nobody_joined_is_no_talk() {
        let causes = Causes::shipped();
        for reason in ["hangup", "agent_hangup", "timeout", "unjoined"] {
            assert_eq!(agent(&causes, Some(reason), false), Disposition::NoAnswer, "{reason}");
        }
        assert_eq!(agent(&causes, Some("hangup"), true), Disposition::Completed);
        assert_eq!(agent(&causes, Some("connection_error"), false), Disposition::Failed);
    }

    /// A network that is congested and an account that is full are told apart.
    #[test]
    fn turned_away() {
        let full = |cause, sip| match carrier(&Causes::shipped(), Some(cause), Some(sip), &[]) {
            Word::TurnedAway { full, .. } => full,
            other => panic!("{other:?}"),
        };
        assert!(full("call_rejected", "403"));
        assert!(!full("unspecified", "503"));
    }

    /// An operator's line goes first, with the code before without.
    #[test]
    fn the_table_can_be_edited() {
        let environment = [
            ("OUTDIAL_CAUSES__TELNYX__CALL_REJECTED".to_owned(), "REFUSED".to_owned()),
            ("OUTDIAL_CAUSES__SIP__503".to_owned(), "BUSY".to_owned()),
        ];
        let wrong = [("OUTDIAL_CAUSES__SIP__503".to_owned(), "MAYBE".to_owned())];
        let error = crate::config::from_parts(None, &wrong.into()).expect_err("no meaning");
        assert!(format!("{error:#}").contains("neither a disposition"), "{error:#}");
        let mut causes = crate::config::from_parts(None, &environment.into()).expect("settings").causes;
        causes.telnyx.insert(
            "call_rejected/603".to_owned(),
            Meaning::Ends { disposition: Disposition::NoAnswer, dials_max: None },
        );
        causes.telnyx.remove("call_rejected/403");
        let of = |cause, sip| match carrier(&causes, Some(cause), Some(sip), &[]) {
            Word::Ended(ended) => (ended.disposition, ended.hangup_cause.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("call_rejected", "403"), (Disposition::Refused, "call_rejected/403".to_owned()));
        assert_eq!(of("call_rejected", "603"), (Disposition::NoAnswer, "call_rejected/603".to_owned()));
        assert_eq!(of("unspecified", "503").0, Disposition::Busy);
    }
}
