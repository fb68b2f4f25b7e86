//! What a cause means. The table is data (`[causes]` in config.toml); here is the order in which it is read.

use std::collections::BTreeMap;

use crate::config::Causes;
use crate::domain::disposition::Disposition;
use crate::domain::word::{Ended, Outcome, Weight, Word};

fn listed(table: &BTreeMap<String, Disposition>, cause: &str) -> Option<Disposition> {
    table.get(&cause.to_ascii_lowercase()).copied()
}

/// How a carrier's leg ended: by `hangup_cause/SIP code`, else by the cause, else by the code. `normal_clearing` says nothing of
/// whether anybody was talked to (it may be early media), so it is no end by itself.
#[must_use]
pub fn carrier(causes: &Causes, cause: Option<&str>, sip: Option<&str>) -> Word {
    let code = sip.filter(|code| !code.is_empty() && *code != "unspecified");
    let raw = match (cause, code) {
        (Some(cause), Some(code)) => Some(format!("{cause}/{code}")),
        (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
        (None, None) => None,
    };
    let by_cause = raw
        .as_deref()
        .and_then(|both| listed(&causes.telnyx, both))
        .or_else(|| cause.and_then(|cause| listed(&causes.telnyx, cause)));
    let disposition = match (by_cause, cause) {
        (Some(disposition), _) => disposition,
        (None, Some("normal_clearing")) => return Word::OneSideOver { by_carrier: true, hangup_cause: raw },
        (None, _) => code.and_then(|code| listed(&causes.sip, code)).unwrap_or(Disposition::Failed),
    };
    ended(disposition, raw)
}

/// How the carrier's call ended by its bare TeXML status; none: the status is no end, or says nothing of how.
#[must_use]
pub fn texml(causes: &Causes, status: &str) -> Option<Word> {
    listed(&causes.texml, status).map(|disposition| ended(disposition, Some(status.to_owned())))
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

fn ended(disposition: Disposition, raw: Option<String>) -> Word {
    Word::Ended(Ended {
        disposition,
        weight: Weight::Cause,
        outcome: None,
        provider_call_id: None,
        hangup_cause: raw.map(|raw| raw.chars().take(200).collect()),
        duration_secs: None,
        transcript: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn shipped() -> Causes {
        crate::config::from_parts(None, &BTreeMap::new()).expect("the defaults").causes
    }

    fn disposition(cause: &str, sip: &str) -> Option<Disposition> {
        match carrier(&shipped(), Some(cause), Some(sip)) {
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
            ("unspecified", "503", Some(Disposition::Failed)),
            ("something_new", "404", Some(Disposition::WrongNumber)),
            ("something_new", "unspecified", Some(Disposition::Failed)),
            ("normal_clearing", "200", None),
        ] {
            assert_eq!(disposition(cause, sip), expected, "{cause} {sip}");
        }
    }

    /// An operator's line goes first, with the code before without.
    #[test]
    fn the_table_can_be_edited() {
        let environment = [
            ("OUTDIAL_CAUSES__TELNYX__CALL_REJECTED".to_owned(), "REFUSED".to_owned()),
            ("OUTDIAL_CAUSES__SIP__503".to_owned(), "BUSY".to_owned()),
        ];
        let mut causes = crate::config::from_parts(None, &environment.into()).expect("settings").causes;
        causes.telnyx.insert("call_rejected/603".to_owned(), Disposition::NoAnswer);
        let of = |cause, sip| match carrier(&causes, Some(cause), Some(sip)) {
            Word::Ended(ended) => (ended.disposition, ended.hangup_cause.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("call_rejected", "403"), (Disposition::Refused, "call_rejected/403".to_owned()));
        assert_eq!(of("call_rejected", "603"), (Disposition::NoAnswer, "call_rejected/603".to_owned()));
        assert_eq!(of("unspecified", "503").0, Disposition::Busy);
    }
}
