//! When calls may be dialed: hours on one or more clocks, all of which must allow it.
//!
//! Pure: rules and an instant in, a window out. Instants are seconds since 1970 inside, wall time decides: an instant is open when
//! every clock shows a time within its hours, on a date it is not closed on. So an hour that is repeated in autumn is open both
//! times, and one that is skipped in spring is no time at all (tests/windows.rs walks all changes of the next two years).

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::hours::{Day, Span};
use crate::domain::zone::Zone;

const DAY: i64 = 86_400;
/// Looked ahead in steps: most windows are near, a yearly one is still found, and what never opens is told as such.
const HORIZONS: [i64; 3] = [9 * DAY, 45 * DAY, 400 * DAY];

/// Hours of the week on the clock of one zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Clock {
    pub zone: Zone,
    pub hours: Vec<Span>,
    /// Local dates on which it is closed, days since 1970.
    pub closed: BTreeSet<i64>,
}

/// An interval in which every clock is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub opens: i64,
    /// Exclusive.
    pub closes: i64,
    /// It may go on behind `closes`: that is only how far was looked.
    pub goes_on: bool,
}

impl Clock {
    /// Whether this clock allows a call at an instant: straight from the written hours.
    #[must_use]
    pub fn is_open(&self, at: i64) -> bool {
        let local = at + self.zone.offset_at(at);
        let today = local.div_euclid(DAY);
        let is_within = |day: i64| {
            !self.closed.contains(&day)
                && self.spans_of(day).any(|(opens, closes)| (opens..closes).contains(&(local - day * DAY)))
        };
        !self.closed.contains(&today) && (is_within(today) || is_within(today - 1))
    }

    fn spans_of(&self, day: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.hours.iter().filter(move |span| span.days.contains(&Day::of_epoch(day))).map(Span::reach)
    }

    /// The open intervals between two instants, in order, joined where they touch.
    fn open_between(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        let mut start = from;
        // Between two changes of the offset, local time is UTC moved by a constant.
        for end in self.zone.changes(from, to).into_iter().chain([to]) {
            let offset = self.zone.offset_at(start);
            let (local_start, local_end) = (start + offset, end + offset);
            for day in local_start.div_euclid(DAY) - 1..=(local_end - 1).div_euclid(DAY) {
                if self.closed.contains(&day) {
                    continue;
                }
                for (opens, closes) in self.spans_of(day) {
                    let (opens, closes) = (day * DAY + opens, day * DAY + closes);
                    let midnight = (day + 1) * DAY;
                    let after_midnight = (midnight, if self.closed.contains(&(day + 1)) { midnight } else { closes });
                    for (opens, closes) in [(opens, closes.min(midnight)), after_midnight] {
                        let (opens, closes) = (opens.max(local_start), closes.min(local_end));
                        if opens < closes {
                            found.push((opens - offset, closes - offset));
                        }
                    }
                }
            }
            start = end;
        }
        joined(found)
    }
}

fn joined(mut intervals: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    intervals.sort_unstable();
    let mut all: Vec<(i64, i64)> = Vec::with_capacity(intervals.len());
    for (opens, closes) in intervals {
        match all.last_mut().filter(|last| opens <= last.1) {
            Some(last) => last.1 = last.1.max(closes),
            None => all.push((opens, closes)),
        }
    }
    all
}

fn intersection(one: &[(i64, i64)], other: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut both = Vec::new();
    let (mut ones, mut others) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (ones.peek(), others.peek()) {
        let (opens, closes) = (a.0.max(b.0), a.1.min(b.1));
        if opens < closes {
            both.push((opens, closes));
        }
        if a.1 < b.1 {
            ones.next()
        } else {
            others.next()
        };
    }
    both
}

/// Whether every clock allows a call at an instant.
#[must_use]
pub fn is_open(clocks: &[Clock], at: i64) -> bool {
    clocks.iter().all(|clock| clock.is_open(at))
}

/// The window an instant lies in, or the next one; none: it never opens. Without clocks it is always open.
#[must_use]
pub fn next(clocks: &[Clock], at: i64) -> Option<Window> {
    let from = at - 2 * DAY;
    HORIZONS.into_iter().find_map(|horizon| {
        let to = at + horizon;
        let open = clocks.iter().fold(vec![(from, to)], |open, clock| {
            if open.is_empty() { open } else { intersection(&open, &clock.open_between(from, to)) }
        });
        let (opens, closes) = open.into_iter().find(|(_, closes)| *closes > at)?;
        Some(Window { opens, closes, goes_on: closes == to })
    })
}

/// A schedule: written hours, and whose clock they are on.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub zone: Zone,
    pub hours: Vec<Span>,
    pub closed_dates: Vec<NaiveDate>,
    /// The hours are the callee's local time, not the schedule's.
    pub on_callees_clock: bool,
}

/// Everything that decides when a lane is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub schedule: Option<Schedule>,
    /// Candidate zones of the callee, each with the legal hours there (none: the law is silent).
    pub callee: Vec<(Zone, Option<Vec<Span>>)>,
}

/// What keeps a lane closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    Hours,
    ClosedDate,
    LegalHours,
    ZoneUnknown,
    Never,
    /// Its user may not have such numbers, or numbers of that country, called.
    Destination,
    /// No network takes its numbers.
    InvalidNumber,
}

impl ClosedBy {
    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hours => "WINDOW_CLOSED",
            Self::ClosedDate => "CLOSED_DATE",
            Self::LegalHours => "LEGAL_HOURS",
            Self::ZoneUnknown => "ZONE_UNKNOWN",
            Self::Never => "WINDOW_NEVER_OPENS",
            Self::Destination => "DESTINATION_NOT_ALLOWED",
            Self::InvalidNumber => "INVALID_NUMBER",
        }
    }

    /// What a word means, where it says that a lane is closed for good by what its calls are; none: it may yet open.
    #[must_use]
    pub fn for_good(word: &str) -> Option<Self> {
        [Self::Never, Self::Destination, Self::InvalidNumber].into_iter().find(|why| why.as_str() == word)
    }
}

/// A lane's window, or what keeps it closed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// In or before this window; `closed_by`: what keeps it closed until then.
    Window {
        window: Window,
        closed_by: Option<ClosedBy>,
    },
    Never(ClosedBy),
}

impl Rules {
    /// All clocks that must allow a call.
    #[must_use]
    pub fn clocks(&self) -> Vec<Clock> {
        self.schedule_clocks(true).chain(self.legal_clocks()).collect()
    }

    fn schedule_clocks(&self, with_closed_dates: bool) -> impl Iterator<Item = Clock> + '_ {
        let schedule = self.schedule.as_ref();
        schedule.into_iter().flat_map(move |schedule| {
            let zones: Vec<&Zone> = if schedule.on_callees_clock {
                self.callee.iter().map(|(zone, _)| zone).collect()
            } else {
                vec![&schedule.zone]
            };
            zones.into_iter().map(move |zone| Clock {
                zone: zone.clone(),
                hours: schedule.hours.clone(),
                closed: schedule
                    .closed_dates
                    .iter()
                    .filter(|_| with_closed_dates)
                    .map(|date| epoch_day(*date))
                    .collect(),
            })
        })
    }

    fn legal_clocks(&self) -> impl Iterator<Item = Clock> + '_ {
        self.callee.iter().filter_map(|(zone, legal)| {
            Some(Clock { zone: zone.clone(), hours: legal.clone()?, closed: BTreeSet::new() })
        })
    }

    /// The window at or after an instant. A callee whose zone nobody knows is never called.
    #[must_use]
    pub fn opening(&self, at: DateTime<Utc>) -> Opening {
        let at = at.timestamp();
        if self.callee.is_empty() {
            return Opening::Never(ClosedBy::ZoneUnknown);
        }
        let Some(window) = next(&self.clocks(), at) else {
            return Opening::Never(ClosedBy::Never);
        };
        let closed_by = (window.opens > at).then(|| self.latest_to_clear(at, window));
        Opening::Window { window, closed_by }
    }

    /// Of what keeps it closed now, the one that clears last.
    fn latest_to_clear(&self, at: i64, window: Window) -> ClosedBy {
        let opens = |with_closed_dates| {
            let clocks: Vec<Clock> = self.schedule_clocks(with_closed_dates).collect();
            next(&clocks, at).map(|window| window.opens.max(at))
        };
        if opens(true) != Some(window.opens) {
            ClosedBy::LegalHours
        } else if opens(false) == opens(true) {
            ClosedBy::Hours
        } else {
            ClosedBy::ClosedDate
        }
    }
}

fn epoch_day(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hours::WallTime;

    fn zone(name: &str) -> Zone {
        Zone::named(name).expect("a zone")
    }

    fn span(opens: i64, closes: i64) -> Span {
        use Day::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
        Span {
            days: [Mon, Tue, Wed, Thu, Fri, Sat, Sun].into(),
            opens: WallTime(opens * 60),
            closes: WallTime(closes * 60),
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn opening(rules: &Rules, now: &str) -> (String, String, Option<ClosedBy>) {
        match rules.opening(at(now)) {
            Opening::Window { window, closed_by } => {
                let show = |secs| DateTime::from_timestamp(secs, 0).expect("a time").format("%FT%TZ").to_string();
                (show(window.opens), show(window.closes), closed_by)
            }
            Opening::Never(why) => ("never".to_owned(), String::new(), Some(why)),
        }
    }

    fn new_york_9_to_5(closed_dates: &[&str]) -> Schedule {
        Schedule {
            zone: zone("America/New_York"),
            hours: vec![span(9 * 60, 17 * 60)],
            closed_dates: closed_dates.iter().map(|date| date.parse().expect("a date")).collect(),
            on_callees_clock: false,
        }
    }

    /// What clears last is named, and its time is the one at which all have cleared.
    #[test]
    fn the_last_to_clear_is_named() {
        let legal = Some(vec![span(8 * 60, 21 * 60)]);
        let here =
            Rules { schedule: Some(new_york_9_to_5(&[])), callee: vec![(zone("America/New_York"), legal.clone())] };
        let open = ("2026-11-23T14:00:00Z".to_owned(), "2026-11-23T22:00:00Z".to_owned());
        assert_eq!(opening(&here, "2026-11-23T15:00:00Z"), (open.0.clone(), open.1.clone(), None));
        assert_eq!(opening(&here, "2026-11-23T10:00:00Z"), (open.0, open.1.clone(), Some(ClosedBy::Hours)));
        let west = Rules { callee: vec![(zone("America/Los_Angeles"), legal.clone())], ..here.clone() };
        let later = "2026-11-23T16:00:00Z".to_owned();
        assert_eq!(opening(&west, "2026-11-23T10:00:00Z"), (later, open.1, Some(ClosedBy::LegalHours)));
        let holiday = Rules { schedule: Some(new_york_9_to_5(&["2026-11-23"])), ..here };
        let (opens, _, why) = opening(&holiday, "2026-11-23T15:00:00Z");
        assert_eq!((opens.as_str(), why), ("2026-11-24T14:00:00Z", Some(ClosedBy::ClosedDate)));
    }

    /// Zones whose hours never meet never open; nor does a callee whose zone nobody knows.
    #[test]
    fn what_never_opens_says_so() {
        let legal = Some(vec![span(9 * 60, 12 * 60)]);
        let apart = Rules {
            schedule: None,
            callee: vec![(zone("America/New_York"), legal.clone()), (zone("Asia/Tokyo"), legal)],
        };
        assert_eq!(apart.opening(at("2026-11-23T10:00:00Z")), Opening::Never(ClosedBy::Never));
        let nobody = Rules { schedule: Some(new_york_9_to_5(&[])), callee: Vec::new() };
        assert_eq!(nobody.opening(at("2026-11-23T10:00:00Z")), Opening::Never(ClosedBy::ZoneUnknown));
    }

    /// The callee's clock: the same hours, each where the callee is.
    #[test]
    fn hours_may_be_the_callees() {
        let schedule = Schedule { on_callees_clock: true, ..new_york_9_to_5(&[]) };
        let rules = Rules { schedule: Some(schedule), callee: vec![(zone("Asia/Riyadh"), None)] };
        let (opens, closes, _) = opening(&rules, "2026-11-23T01:00:00Z");
        assert_eq!((opens.as_str(), closes.as_str()), ("2026-11-23T06:00:00Z", "2026-11-23T14:00:00Z"));
    }

    /// A span past midnight belongs to the day it begins on, and a closed date cuts its part of it.
    #[test]
    fn nights_and_closed_dates() {
        let mut schedule = new_york_9_to_5(&["2026-11-25"]);
        schedule.hours = vec![Span { days: [Day::Tue].into(), ..span(22 * 60, 6 * 60) }];
        let rules = Rules { schedule: Some(schedule), callee: vec![(zone("America/New_York"), None)] };
        let (opens, closes, _) = opening(&rules, "2026-11-23T15:00:00Z");
        assert_eq!((opens.as_str(), closes.as_str()), ("2026-11-25T03:00:00Z", "2026-11-25T05:00:00Z"));
    }

    /// Round the clock is one window that goes on behind the horizon.
    #[test]
    fn always_open_goes_on() {
        let clock = Clock { zone: zone("Europe/London"), hours: vec![span(0, 0)], closed: BTreeSet::new() };
        let window = next(&[clock], 1_796_083_200).expect("open");
        assert!(window.goes_on && window.opens < 1_796_083_200);
    }
}
