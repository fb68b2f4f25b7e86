//! Every statement that does not move a call: reads for people, keys, processes, answers already given.

pub mod audit;
pub mod calls;
pub mod campaigns;
pub mod deliveries;
pub mod idempotency;
pub mod installation;
pub mod instances;
pub mod keys;
pub mod legal_hours;
pub mod phone_numbers;
pub mod planning;
pub mod plans;
pub mod prospects;
pub mod rates;
pub mod schedules;
pub mod scripts;
pub mod settings;
pub mod strays;
pub mod suppressions;
pub mod test_numbers;
pub mod uploads;
pub mod usage;
pub mod users;

use uuid::Uuid;

use crate::domain::ids::UserId;

/// Rows that what tidies the tables takes in one transaction.
const ROWS_AT_ONCE: i64 = 5000;

/// What a path or body names: our id, or the client's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub id: Option<Uuid>,
    pub external_id: Option<String>,
}

impl From<&str> for Named {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(id) => Self { id: Some(id), external_id: None },
            Err(_) => Self { id: None, external_id: Some(text.to_owned()) },
        }
    }
}

/// Which part of a list.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Whose rows; none: everybody's.
    pub user: Option<UserId>,
    /// Rows older than this one.
    pub below: Option<Uuid>,
    /// One more than the page holds, so that it shows whether there is another.
    pub limit: i64,
    pub offset: i64,
}
