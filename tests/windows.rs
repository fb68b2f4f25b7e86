//! Calling windows over every change of the clocks in the next two years, in every zone there is: what the windows say is what
//! the written hours say, instant by instant.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so where it stands")]

use std::collections::BTreeSet;

use outdial::domain::hours::{Day, Span, WallTime};
use outdial::domain::window::{self, Clock};
use outdial::domain::zone::Zone;
use proptest::prelude::*;

/// 2026-11-21 and two years on.
const FROM: i64 = 1_795_219_200;
const TO: i64 = FROM + 2 * 365 * 86_400;

const DAYS: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

/// Hours that make trouble: several a day, past midnight, round the clock, edges inside repeated and skipped hours.
fn troublesome() -> Vec<Vec<Span>> {
    let span = |days: &[Day], opens: i64, closes: i64| Span {
        days: days.iter().copied().collect(),
        opens: WallTime(opens * 60),
        closes: WallTime(closes * 60),
    };
    vec![
        vec![span(&DAYS[..5], 9 * 60, 12 * 60), span(&DAYS[..5], 13 * 60, 17 * 60 + 30)],
        vec![span(&DAYS, 22 * 60, 6 * 60)],
        vec![span(&DAYS, 60, 90), span(&DAYS, 100, 150)],
        vec![span(&DAYS, 150, 180)],
        vec![span(&DAYS, 0, 0)],
        vec![span(&[Day::Sat], 23 * 60, 2 * 60 + 30), span(&[Day::Sun], 2 * 60, 4 * 60)],
    ]
}

/// Instants around a change at which something could go wrong: each quarter of an hour for a day and a half.
fn around(change: i64) -> impl Iterator<Item = i64> {
    (change - 130_000..change + 130_000).step_by(900).chain([change - 1, change, change + 1])
}

/// The window computed for an instant agrees with the written hours there, at its edges, and around them.
fn check(clocks: &[Clock], at: i64) {
    let names: Vec<&str> = clocks.iter().map(|clock| clock.zone.name()).collect();
    let Some(window) = window::next(clocks, at) else {
        assert!(!window::is_open(clocks, at), "{names:?} {at}: open, but no window");
        return;
    };
    let is_inside = window.opens <= at && at < window.closes;
    assert_eq!(is_inside, window::is_open(clocks, at), "{names:?} {at}: {window:?}");
    let first = window.opens.max(at - 100_000);
    assert!(window::is_open(clocks, first) && window::is_open(clocks, window.closes - 1), "{names:?} {at}: {window:?}");
    if !window.goes_on {
        assert!(!window::is_open(clocks, window.closes), "{names:?} {at}: open at its closing {window:?}");
    }
    if window.opens > at {
        assert!(!window::is_open(clocks, window.opens - 1), "{names:?} {at}: open before its opening {window:?}");
    }
}

#[test]
fn windows_are_the_written_hours_at_every_change_of_two_years() {
    let mut changes = 0;
    for name in chrono_tz::TZ_VARIANTS {
        let zone = Zone::named(name.name()).expect("data");
        for change in zone.changes(FROM, TO) {
            changes += 1;
            for (nth, hours) in troublesome().into_iter().enumerate() {
                let local_day = (change + zone.offset_at(change)).div_euclid(86_400);
                let closed = if nth % 2 == 0 { BTreeSet::new() } else { BTreeSet::from([local_day + 1]) };
                let clock = Clock { zone: zone.clone(), hours, closed };
                // Every zone at its change; instants by the quarter for some, the edges for all.
                let instants: Vec<i64> =
                    if changes % 16 == 0 { around(change).collect() } else { vec![change - 1, change, change + 1] };
                for at in instants {
                    check(std::slice::from_ref(&clock), at);
                }
            }
        }
    }
    assert!(changes > 500, "only {changes} changes seen");
}

/// No instant inside a window lies outside the written hours: second by second through a change.
#[test]
fn no_second_of_a_window_is_outside_the_hours() {
    for name in ["America/New_York", "Europe/Dublin", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca"] {
        let zone = Zone::named(name).expect("a zone");
        let Some(change) = zone.changes(FROM, TO).first().copied() else { continue };
        for hours in troublesome() {
            let clock = Clock { zone: zone.clone(), hours, closed: BTreeSet::new() };
            let clocks = std::slice::from_ref(&clock);
            let mut window = window::next(clocks, change - 7200).expect("a window");
            for at in change - 7200..change + 7200 {
                if at >= window.closes {
                    window = window::next(clocks, at).expect("a window");
                }
                assert_eq!(window.opens <= at && at < window.closes, clock.is_open(at), "{name} {at}");
            }
        }
    }
}

fn any_span() -> impl Strategy<Value = Span> {
    let days = proptest::sample::subsequence(DAYS.to_vec(), 1..=7);
    (days, 0..1440_i64, 0..1440_i64).prop_map(|(days, opens, closes)| Span {
        days: days.into_iter().collect(),
        opens: WallTime(opens * 60),
        closes: WallTime(closes * 60),
    })
}

fn any_clock() -> impl Strategy<Value = Clock> {
    let zones = proptest::sample::select(chrono_tz::TZ_VARIANTS.to_vec());
    let closed = proptest::collection::btree_set(FROM / 86_400..TO / 86_400, 0..40);
    (zones, proptest::collection::vec(any_span(), 1..5), closed).prop_map(|(zone, hours, closed)| Clock {
        zone: Zone::named(zone.name()).expect("data"),
        hours,
        closed,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Any hours on any two clocks, at any instant.
    #[test]
    fn any_hours_at_any_instant(clocks in proptest::collection::vec(any_clock(), 1..3), at in FROM..TO) {
        check(&clocks, at);
    }
}
