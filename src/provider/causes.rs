//! What a cause means. The table is data (`[causes]` in config.toml); here is the order in which it is read.

use std::collections::BTreeMap;

use crate::config::{Causes, Meaning};
use crate::domain::disposition::Disposition;
use crate::domain::word::{Ended, Outcome, Weight, Word, shortened};

fn listed<T: Copy>(table: &BTreeMap<String, T>, cause: &str) -> Option<T> {
    table.get(&cause.to_ascii_lowercase()).copied()
}

/// How a carrier's leg ended: by `hangup_cause/SIP code`, else by the cause, else by the code. What is not listed is no end by itself:
/// `normal_clearing` may be a talk or early media, and after a talk nothing unknown to us may have the person called again. Whether
/// anybody was talked to, the agent's side tells.
#[must_use]
pub fn carrier(causes: &Causes, cause: Option<&str>, sip: Option<&str>) -> Word {
    let code = sip.filter(|code| !code.is_empty() && *code != "unspecified");
    let raw = match (cause, code) {
        (Some(cause), Some(code)) => Some(format!("{cause}/{code}")),
        (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
        (None, None) => None,
    };
    let by_cause = raw.as_deref().and_then(|both| listed(&causes.telnyx, both));
    let by_cause = by_cause.or_else(|| cause.and_then(|cause| listed(&causes.telnyx, cause)));
    let by_code = || code.filter(|_| cause != Some("normal_clearing")).and_then(|code| listed(&causes.sip, code));
    match by_cause.or_else(by_code) {
        Some(meaning) => word(meaning, raw),
        None => Word::OneSideOver { by_carrier: true, hangup_cause: raw.as_deref().map(shortened) },
    }
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

/// How the agent's side ended: by its reason, else by whether anybody joined.
#[must_use]
pub fn agent(causes: &Causes, reason: Option<&str>, joined: bool) -> Disposition {
    let fallback = if joined { Disposition::Completed } else { Disposition::Failed };
    reason.and_then(|reason| listed(&causes.ultravox, reason)).unwrap_or(fallback)
}

fn word(meaning: Meaning, raw: Option<String>) -> Word {
    let hangup_cause = raw.as_deref().map(shortened);
    match meaning {
        Meaning::TurnedAway { full } => Word::TurnedAway { full, hangup_cause },
        Meaning::Ends(disposition) => Word::Ended(Ended { hangup_cause, ..Ended::of(disposition, Weight::Cause) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(cause: &str, sip: &str) -> Option<Disposition> {
        match carrier(&Causes::shipped(), Some(cause), Some(sip)) {
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
            ("time_limit", "200", Some(Disposition::Completed)),
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

    /// A network that is congested and an account that is full are told apart.
    #[test]
    fn turned_away() {
        let full = |cause, sip| match carrier(&Causes::shipped(), Some(cause), Some(sip)) {
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
        causes.telnyx.insert("call_rejected/603".to_owned(), Meaning::Ends(Disposition::NoAnswer));
        causes.telnyx.remove("call_rejected/403");
        let of = |cause, sip| match carrier(&causes, Some(cause), Some(sip)) {
            Word::Ended(ended) => (ended.disposition, ended.hangup_cause.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("call_rejected", "403"), (Disposition::Refused, "call_rejected/403".to_owned()));
        assert_eq!(of("call_rejected", "603"), (Disposition::NoAnswer, "call_rejected/603".to_owned()));
        assert_eq!(of("unspecified", "503").0, Disposition::Busy);
    }
}
