//! outdial: outbound AI phone calls on one Rust binary and one Postgres.
//!
//! The modules are floors: each imports only from floors below it, and `tests/tidy.rs` fails when one does not.
//! Follow a call upwards: `api` takes it in, `queue` holds and claims it, `executor` dials it through a `provider`,
//! `outcome` decides what is said about it, and `queue` writes that down.

pub mod api;
pub mod bench;
pub mod config;
pub mod db;
pub mod domain;
pub mod executor;
pub mod fake_providers;
pub mod notifier;
pub mod outcome;
pub mod planner;
pub mod provider;
pub mod queue;
pub mod scheduler;
pub mod service;
pub mod store;
pub mod telemetry;
