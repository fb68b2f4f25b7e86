//! Everything that needs a real Postgres, real processes or a real socket: one binary, since each links for a while.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::await_holding_lock,
    reason = "a test that cannot go on says so where it stands"
)]

mod api_calls;
mod campaigns;
mod cold_calling;
mod database;
mod doors;
mod embedded;
mod executor;
mod fake_provider;
mod isolation;
mod keyless;
mod kill;
mod limits;
mod multi;
mod operations;
mod outbox;
mod plans;
mod queue;
mod races;
mod roles;
mod rules;
mod schema;
mod support;
mod tenancy;
mod ultravox;
mod ultravox_kill;
mod webhooks;
