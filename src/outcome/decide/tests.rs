//! The decision, word by word and in every order.

use super::*;
use crate::domain::ids::{AttemptId, CallId, new_id};
use proptest::prelude::*;

const RULES: Rules = Rules {
    retry: Policy { base: Duration::from_secs(30), factor: 2.0, max: Duration::from_secs(3600), jitter: 0.0 },
    time_divisor: 1.0,
    dial_timeout: Duration::from_secs(10),
    lookup_grace: Duration::from_secs(10),
    inquiry: Duration::from_secs(30),
    max_attempts: 3,
    callbacks_max: 3,
    record_after: None,
    full_hold: Duration::from_secs(1),
    global_limit: 30,
    ceiling_recovery: Duration::from_secs(300),
};

/// A call that has just been claimed for its first dial.
fn claimed() -> Facts {
    Facts {
        attempt_id: AttemptId(new_id()),
        call_id: CallId(new_id()),
        revision: 0,
        state: AttemptState::Dialing,
        dialed: false,
        weight: Weight::None,
        misses: 0,
        told: None,
        provider_call_id: None,
        known: crate::queue::Known::default(),
        unheard_secs: 0.0,
        call_state: CallState::Live,
        newest: true,
        dials: 0,
        dials_max: 3,
        priority: rank::NORMAL,
        rank: rank::NORMAL,
        cancel_requested: false,
        retry_delay_secs: None,
        retry_rules: None,
        promise: None,
    }
}

/// What is left after these words: the facts, and the disposition last written.
fn after(mut facts: Facts, words: &[Word]) -> (Facts, Option<Disposition>) {
    let mut disposition = None;
    for word in words {
        if let Some(settlement) = decide(&facts, word, &RULES, 0.5) {
            disposition = settlement.disposition.or(disposition);
            let call = settlement.call.map_or(facts.call_state, |call| call.becomes);
            facts = Facts { call_state: call, ..facts.after(&settlement) };
        }
    }
    (facts, disposition)
}

fn ended(disposition: Disposition, weight: Weight) -> Word {
    Word::Ended(Ended::of(disposition, weight))
}

fn told(disposition: Disposition) -> Word {
    Word::Told { outcome: Outcome::of(disposition) }
}

/// Each word on a fresh attempt: what becomes of attempt and call, and whether it was a dial.
#[test]
fn each_word_on_a_fresh_attempt() {
    let none = || "x".to_owned();
    for (word, attempt, call, dials) in [
        (Word::Accepted { provider_call_id: None, carrier_call_id: None }, AttemptState::Accepted, CallState::Live, 1),
        (Word::Started, AttemptState::Accepted, CallState::Live, 1),
        (told(Disposition::AppointmentSet), AttemptState::Accepted, CallState::Live, 1),
        (ended(Disposition::Completed, Weight::Status), AttemptState::Ended, CallState::Completed, 1),
        (ended(Disposition::Busy, Weight::Cause), AttemptState::Ended, CallState::Waiting, 1),
        (ended(Disposition::WrongNumber, Weight::Explicit), AttemptState::Ended, CallState::Failed, 1),
        (Word::Refused { reason: none(), wrong_number: false }, AttemptState::Ended, CallState::Failed, 1),
        (Word::Refused { reason: none(), wrong_number: true }, AttemptState::Ended, CallState::Failed, 1),
        (Word::Capacity { retry_after_ms: 1000 }, AttemptState::Ended, CallState::Waiting, 0),
        (Word::NotSent { reason: none() }, AttemptState::Ended, CallState::Waiting, 0),
        (Word::Withheld { bar: "WINDOW_CLOSED".to_owned(), detail: None }, AttemptState::Ended, CallState::Waiting, 0),
        (Word::Withheld { bar: "DO_NOT_CALL".to_owned(), detail: None }, AttemptState::Ended, CallState::Canceled, 0),
        (Word::Doubt { reason: none(), sent_ms_ago: 5 }, AttemptState::Unknown, CallState::Live, 0),
        (Word::NotFound, AttemptState::Dialing, CallState::Live, 0),
        (Word::Overdue, AttemptState::Ended, CallState::Failed, 1),
        (Word::Prepared { provider_call_id: none() }, AttemptState::Dialing, CallState::Live, 0),
        (Word::OneSideOver { by_carrier: true, hangup_cause: None }, AttemptState::Accepted, CallState::Live, 1),
        (Word::OneSideOver { by_carrier: false, hangup_cause: None }, AttemptState::Dialing, CallState::Live, 0),
        (Word::Lapsed { hangup_cause: none() }, AttemptState::Dialing, CallState::Live, 0),
        (Word::Recorded(record(Some(60))), AttemptState::Dialing, CallState::Live, 0),
    ] {
        let (facts, _) = after(claimed(), std::slice::from_ref(&word));
        assert_eq!((facts.state, facts.call_state, facts.dials), (attempt, call, dials), "{word:?}");
    }
}

/// Doubt is ended by a found call, by its end, by two misses in the quiet, or by its own dial, which others had given up; by nothing else.
#[test]
fn doubt_is_never_guessed_away() {
    let (doubted, _) = after(claimed(), &[Word::Doubt { reason: "timeout".to_owned(), sent_ms_ago: 0 }]);
    assert_eq!(after(doubted.clone(), &[Word::NotFound, Word::NotFound]).0.state, AttemptState::Unknown);
    let quiet = Facts { unheard_secs: 20.0, ..doubted.clone() };
    assert_eq!(after(quiet.clone(), &[Word::NotFound]).0.state, AttemptState::Unknown);
    for words in [
        [Word::NotFound, Word::NotFound],
        [Word::NotFound, Word::NotSent { reason: "x".to_owned() }],
        [Word::NotFound, Word::Capacity { retry_after_ms: 1 }],
    ] {
        let released = after(quiet.clone(), &words).0;
        assert_eq!((released.state, released.call_state, released.dials), (AttemptState::Ended, CallState::Waiting, 0));
    }
    let adopted = Word::Accepted { provider_call_id: None, carrier_call_id: None };
    let (adopted, _) = after(doubted, &[adopted, Word::NotSent { reason: "x".to_owned() }, Word::NotFound]);
    assert_eq!((adopted.state, adopted.dials), (AttemptState::Accepted, 1));
}

/// Where a first step was written down, a phone may have rung and somebody may have talked, though nothing is found any more: it counts,
/// and nobody is called again.
#[test]
fn what_was_prepared_and_is_gone_stays_unknown() {
    let words = [
        Word::Prepared { provider_call_id: "p".to_owned() },
        Word::Doubt { reason: "timeout".to_owned(), sent_ms_ago: 0 },
    ];
    let quiet = Facts { unheard_secs: 20.0, ..after(claimed(), &words).0 };
    let (gone, said) = after(quiet, &[Word::NotFound, Word::NotFound]);
    assert_eq!(
        (gone.state, gone.call_state, gone.dials, said),
        (AttemptState::Ended, CallState::Failed, 1, Some(Disposition::Unknown))
    );
}

fn record(billed_secs: Option<i32>) -> Record {
    Record { billed_secs, transcript: None, summary: None, complete: false }
}

/// Where placing takes two steps: what was prepared and lapsed was a dial when the second step may have been taken, and none when not
/// even the first was written down. Neither the agent's end nor its record adopts what is in doubt.
#[test]
fn what_lapses_was_a_dial_only_where_it_may_have_been() {
    let doubt = Word::Doubt { reason: "timeout".to_owned(), sent_ms_ago: 0 };
    let lapsed = Word::Lapsed { hangup_cause: "unjoined".to_owned() };
    let prepared = Word::Prepared { provider_call_id: "p".to_owned() };
    let agent_left = Word::OneSideOver { by_carrier: false, hangup_cause: None };
    let (one, said) = after(claimed(), &[prepared.clone(), doubt.clone(), lapsed.clone()]);
    assert_eq!(
        (one.state, one.call_state, one.dials, said),
        (AttemptState::Ended, CallState::Waiting, 1, Some(Disposition::NoAnswer))
    );
    let (none, said) = after(claimed(), &[doubt.clone(), lapsed]);
    assert_eq!((none.state, none.call_state, none.dials, said), (AttemptState::Ended, CallState::Waiting, 0, None));
    for word in [agent_left, Word::Recorded(record(Some(60))), prepared.clone()] {
        let (facts, _) = after(claimed(), &[prepared.clone(), doubt.clone(), word]);
        assert_eq!((facts.state, facts.dials), (AttemptState::Unknown, 0));
    }
    // A first step written down too late is no leave to take the second.
    assert!(decide(&after(claimed(), &[doubt]).0, &prepared, &RULES, 0.5).is_none());
}

/// A machine that was heard makes a bare end a voicemail; what the agent tells outweighs it, in any order.
#[test]
fn a_machine_is_outweighed_by_the_agent() {
    let heard = Outcome { weight: Weight::Cause, ..Outcome::of(Disposition::Voicemail) };
    let heard = Word::Told { outcome: heard };
    let bare = ended(Disposition::Completed, Weight::Status);
    for words in [[heard.clone(), bare.clone()], [bare.clone(), heard.clone()]] {
        assert_eq!(after(claimed(), &words).1, Some(Disposition::Voicemail), "{words:?}");
    }
    let told = told(Disposition::AppointmentSet);
    for words in
        [[heard.clone(), told.clone(), bare.clone()], [told.clone(), heard.clone(), bare.clone()], [bare, told, heard]]
    {
        assert_eq!(after(claimed(), &words).1, Some(Disposition::AppointmentSet), "{words:?}");
    }
}

/// What is billed stands, whatever was measured before or is told after.
#[test]
fn the_bill_stands() {
    let measured = Word::Ended(Ended { duration_secs: Some(50), ..ours(Disposition::Completed, Weight::Status, "x") });
    let billed = Word::Recorded(record(Some(60)));
    for words in [[measured.clone(), billed.clone()], [billed, measured]] {
        let mut duration = None;
        let mut facts = claimed();
        for word in &words {
            if let Some(settlement) = decide(&facts, word, &RULES, 0.5) {
                duration = settlement.duration_secs.or(duration);
                facts = facts.after(&settlement);
            }
        }
        assert_eq!(duration, Some(60), "{words:?}");
    }
}

/// A phone that could not be rung costs no attempt, up to a point; a talk is not undone by it.
#[test]
fn being_turned_away_costs_no_attempt() {
    let away = Word::TurnedAway { full: false, hangup_cause: Some("unspecified/503".to_owned()), dials_max: None };
    let last = Facts { dials: 2, ..claimed() };
    let settlement = decide(&last, &away, &RULES, 0.5).expect("a change");
    let call = settlement.call.expect("it waits again");
    assert_eq!((call.becomes, call.dials_max, settlement.dialed), (CallState::Waiting, Some(4), true));
    let often = Facts { dials: 10, dials_max: 11, ..claimed() };
    let call = decide(&often, &away, &RULES, 0.5).and_then(|settlement| settlement.call).expect("an end");
    assert_eq!((call.becomes, call.dials_max), (CallState::Failed, None));
    assert_eq!(decide(&after(claimed(), &[Word::Started]).0, &away, &RULES, 0.5), None);
}

/// Some causes are granted a dial, or are a reason for another, a few times only.
#[test]
fn some_causes_are_tried_again_a_few_times_only() {
    let away = Word::TurnedAway { full: true, hangup_cause: Some("call_rejected/403".to_owned()), dials_max: Some(3) };
    let granted = |dials: i16| {
        let facts = Facts { dials, dials_max: dials + 3, ..claimed() };
        decide(&facts, &away, &RULES, 0.5).and_then(|settlement| settlement.call).expect("a change").dials_max
    };
    assert_eq!((granted(0), granted(2), granted(3)), (Some(4), Some(6), None));
    let declined = Word::Ended(Ended { dials_max: Some(2), ..Ended::of(Disposition::Failed, Weight::Cause) });
    let becomes = |dials: i16| {
        let facts = Facts { dials, dials_max: 10, ..claimed() };
        decide(&facts, &declined, &RULES, 0.5).and_then(|settlement| settlement.call).expect("a change").becomes
    };
    assert_eq!((becomes(0), becomes(1)), (CallState::Waiting, CallState::Failed));
}

/// The last dial that fails ends the call; a cancel asked during the call ends it too, unless somebody was reached.
#[test]
fn the_last_dial_and_a_cancel_end_the_call() {
    let busy = ended(Disposition::Busy, Weight::Cause);
    let last = Facts { dials: 2, ..claimed() };
    assert_eq!(after(last, std::slice::from_ref(&busy)).0.call_state, CallState::Failed);
    let canceled = Facts { cancel_requested: true, ..claimed() };
    assert_eq!(after(canceled.clone(), &[busy]).0.call_state, CallState::Canceled);
    let reached = after(canceled, &[ended(Disposition::Completed, Weight::Status)]).0;
    assert_eq!(reached.call_state, CallState::Completed);
}

/// A late word about an attempt that is not the newest corrects the attempt and leaves the call alone.
#[test]
fn an_old_attempt_does_not_move_its_call() {
    let (old, _) = after(claimed(), &[ended(Disposition::Failed, Weight::Status)]);
    let old = Facts { newest: false, call_state: CallState::Live, ..old };
    let settlement = decide(&old, &ended(Disposition::Completed, Weight::Explicit), &RULES, 0.5).expect("a correction");
    assert_eq!((settlement.call, settlement.disposition), (None, Some(Disposition::Completed)));
}

fn some_words() -> impl Strategy<Value = Vec<Word>> {
    let word = prop_oneof![
        Just(Word::Accepted { provider_call_id: Some("p".to_owned()), carrier_call_id: None }),
        Just(Word::Started),
        Just(told(Disposition::AppointmentSet)),
        Just(Word::OneSideOver { by_carrier: true, hangup_cause: Some("normal_clearing".to_owned()) }),
        Just(Word::Recorded(record(Some(60)))),
        Just(ended(Disposition::Failed, Weight::Status)),
        Just(ended(Disposition::NoAnswer, Weight::Cause)),
        Just(ended(Disposition::NotInterested, Weight::Explicit)),
    ];
    // At least one end, each word once or more, in any order.
    proptest::collection::vec(word, 0..6).prop_map(|mut words| {
        words.push(ended(Disposition::Failed, Weight::Status));
        words
    })
}

proptest! {
    /// Any order and any number of deliveries lead to the same attempt, call, disposition and count of dials.
    #[test]
    fn order_and_repetition_do_not_matter(
        (words, shuffled) in some_words().prop_flat_map(|words| {
            let mut doubled = words.clone();
            doubled.extend(words.clone());
            (Just(words), Just(doubled).prop_shuffle())
        })
    ) {
        // Two explicit outcomes that contradict each other have no right order; the platform sends one.
        let explicit = |word: &Word| matches!(word, Word::Told { .. })
            || matches!(word, Word::Ended(ended) if ended.weight == Weight::Explicit);
        prop_assume!(words.iter().filter(|word| explicit(word)).collect::<Vec<_>>().windows(2).all(|pair| pair[0] == pair[1]));
        let (one, said) = after(claimed(), &words);
        let (other, said_too) = after(claimed(), &shuffled);
        prop_assert_eq!((one.state, one.call_state, one.dials, said), (other.state, other.call_state, other.dials, said_too));
    }
}
