//! Every statement that does not move a call: reads for people, keys, processes, answers already given.

pub mod calls;
pub mod idempotency;
pub mod installation;
pub mod instances;
pub mod keys;
pub mod strays;
pub mod users;
