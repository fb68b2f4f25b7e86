//! What an error of the database says of the next try: the one list of what is transient.
//!
//! Everything is, but what Postgres says about the values themselves: an outage must never be taken for a fault of an item, which
//! would be set aside for it. So the list names the faults of items, and the rest is an outage.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use sqlx::Error;

/// SQLSTATE classes that speak of the values given: cardinality, data, integrity, program limits, exceptions raised by our functions.
const OF_VALUES: [&str; 5] = ["21", "22", "23", "54", "P0"];
/// Classes that speak of our statements: wrong for as long as this program runs.
const OF_STATEMENTS: [&str; 3] = ["0A", "42", "XX"];

/// Whether this very item cannot be written or read: the same would fail again, while others may do well.
#[must_use]
pub fn is_of_the_values(error: &Error) -> bool {
    match error {
        Error::Database(refused) => class_in(refused.code().as_deref(), &OF_VALUES),
        Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. } | Error::RowNotFound => true,
        _ => false,
    }
}

/// Whether something the statement touches is at fault, for now: a row that another session holds, or more work than a statement may
/// take. What touches other rows may do well.
#[must_use]
pub fn is_of_the_rows(error: &Error) -> bool {
    match error {
        // Lock not available, deadlock, statement time-out.
        Error::Database(refused) => matches!(refused.code().as_deref(), Some("55P03" | "40P01" | "57014")),
        _ => false,
    }
}

/// Whether a statement of ours is at fault.
#[must_use]
pub fn is_of_the_statement(error: &Error) -> bool {
    match error {
        Error::Database(refused) => class_in(refused.code().as_deref(), &OF_STATEMENTS),
        Error::TypeNotFound { .. } | Error::ColumnNotFound(_) | Error::ColumnIndexOutOfBounds { .. } => true,
        _ => false,
    }
}

/// Whether the connection is at fault, so that another one may do: it broke, or the server has ended it.
#[must_use]
pub fn is_of_the_connection(error: &Error) -> bool {
    match error {
        Error::Database(refused) => class_in(refused.code().as_deref(), &["08", "57P", "25P", "26"]),
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => true,
        _ => false,
    }
}

fn class_in(code: Option<&str>, classes: &[&str]) -> bool {
    code.is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
}

/// Waits for a statement at most so long: a connection that swallows what is sent answers never, and Postgres' own time-outs do not
/// reach us then. The connection is closed, not lent again ([`crate::db::Db::open`]).
///
/// # Errors
/// The statement's own; `Io` with `TimedOut` when it did not answer.
pub async fn within<T>(patience: Duration, statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(patience, statement).await.unwrap_or_else(|_| {
        Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database did not answer in time")))
    })
}

/// Does one round of somebody's work: a panic in it is an error of that round, not the end of whoever goes round.
///
/// # Errors
/// The work's own; `WorkerCrashed` when it panicked, which is logged here.
pub async fn caught<T>(what: &'static str, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(what, "our own code panicked; the next round starts afresh");
        Err(Error::WorkerCrashed)
    })
}
