//! Named places at which the kill tests end the process as `kill -9` would. In release builds the calls are empty.
//!
//! `OUTDIAL_FAILPOINT=name` or `name:n` ends the process at the first or nth hit. The names are [`NAMES`]; the test that
//! walks them (tests/it/kill.rs) fails when one is never reached.

/// Every failpoint, along the road of a call.
pub const NAMES: &[&str] = &[
    "enqueue.before_commit",
    "enqueue.after_commit",
    "claim.before_commit",
    "claim.after_commit",
    "dial.after_prepare",
    "dial.before_request",
    "dial.after_request",
    "answer.before_settle",
    "event.before_commit",
    "event.after_commit",
    "upload.before_verdicts",
    "upload.after_verdicts",
];

#[cfg(debug_assertions)]
std::thread_local! {
    static PANICS_AT: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// This thread panics the next time it comes by this point: how a simulation of several processes in one lets one of them die. None: no
/// more. Gives what was asked for before and did not happen.
#[cfg(debug_assertions)]
pub fn panic_at(name: Option<&'static str>) -> Option<&'static str> {
    PANICS_AT.replace(name)
}

/// Whether one of these points may be hit: where work is done in one step, it is then done in steps that can be cut off.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_awaited(names: &[&str]) -> bool {
    let by_this_thread = PANICS_AT.get().is_some_and(|wanted| names.contains(&wanted));
    by_this_thread || WANTED.as_ref().is_some_and(|(wanted, _)| names.contains(&wanted.as_str()))
}

#[cfg(not(debug_assertions))]
#[must_use]
pub fn is_awaited(_names: &[&str]) -> bool {
    false
}

/// The point at which the process ends, and at which of its hits.
#[cfg(debug_assertions)]
static WANTED: std::sync::LazyLock<Option<(String, u32)>> = std::sync::LazyLock::new(|| {
    let text = std::env::var("OUTDIAL_FAILPOINT").ok()?;
    let (name, nth) = text.split_once(':').map_or((text.as_str(), 1), |(n, k)| (n, k.parse().unwrap_or(1)));
    Some((name.to_owned(), nth))
});

/// Ends the process without a goodbye when this point is the one asked for.
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static HITS: AtomicU32 = AtomicU32::new(0);

    debug_assert!(NAMES.contains(&name), "{name} is not listed");
    if PANICS_AT.get() == Some(name) {
        PANICS_AT.set(None);
        std::panic::panic_any(name);
    }
    if let Some((wanted, nth)) = WANTED.as_ref()
        && wanted == name
        && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *nth
    {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub fn hit(_name: &'static str) {}
