//! The words of the house and the rules that need nothing but them: ids, numbers, states, what a provider can say,
//! when to try again.
//!
//! **Invariant:** pure. No clock, no randomness of its own, no I/O; every floor may use it, it uses none.

pub mod call;
pub mod disposition;
pub mod failpoint;
pub mod hours;
pub mod ids;
pub mod phone;
pub mod place;
pub mod prospect;
pub mod raw_json;
pub mod retry;
pub mod script;
pub mod template;
pub mod webhook_key;
pub mod window;
pub mod word;
pub mod zone;
