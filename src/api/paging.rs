//! Pages of lists: by number near the top, by cursor further down.

use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::api::Api;
use crate::api::auth::Caller;
use crate::api::envelope::{Page, Pagination};
use crate::api::error::Error;
use crate::api::owner::scope_of;
use crate::store::Slice;

const LIMIT_DEFAULT: i64 = 10;
const LIMIT_MAX: i64 = 100;
/// Rows that may be skipped by `page`; further down, `cursor` is the way.
const OFFSET_MAX: i64 = 10_000;

/// Which page of a list, and whose rows.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The user's id or external id.
    pub user_id: Option<String>,
    /// Counted from 1.
    #[param(minimum = 1, maximum = 10000)]
    pub page: Option<i64>,
    /// Rows on a page: 1 to 100, 10 unless given.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<i64>,
    /// `nextCursor` of the page before; then `page` is ignored.
    pub cursor: Option<String>,
}

/// A page that was asked for, checked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    page: i64,
    limit: i64,
    pub below: Option<Uuid>,
    pub offset: i64,
}

impl Asked {
    /// # Errors
    /// 400 with the parameter at fault.
    pub fn new(page: Option<i64>, limit: Option<i64>, cursor: Option<&str>) -> Result<Self, Error> {
        let (page, limit) = (page.unwrap_or(1), limit.unwrap_or(LIMIT_DEFAULT));
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Error::invalid_field("limit", format!("must be 1 to {LIMIT_MAX}")));
        }
        let offset = page.saturating_sub(1).saturating_mul(limit);
        if page < 1 || offset > OFFSET_MAX {
            return Err(Error::invalid_field(
                "page",
                format!("must be at least 1 and skip at most {OFFSET_MAX} rows; use cursor further down"),
            ));
        }
        let below = cursor.map(str::parse).transpose().map_err(|_| Error::invalid_field("cursor", "is not an id"))?;
        Ok(Self { page, limit, below, offset: if below.is_some() { 0 } else { offset } })
    }

    /// Rows to read: one more than the page holds tells whether there is another.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// The page of these rows.
    pub fn page<T, C: ToString>(self, mut rows: Vec<T>, total: i64, id_of: impl Fn(&T) -> C) -> Page<T> {
        let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) > self.limit;
        rows.truncate(usize::try_from(self.limit).unwrap_or_default());
        let next_cursor = rows.last().filter(|_| more).map(|row| id_of(row).to_string());
        let total_pages = total.max(0).div_euclid(self.limit) + i64::from(total.rem_euclid(self.limit) > 0);
        let pagination = Pagination { page: self.page, limit: self.limit, total, total_pages, next_cursor };
        Page { success: true, data: rows, pagination }
    }
}

impl PageQuery {
    /// The part of the list that is asked for.
    ///
    /// # Errors
    /// 400 with the parameter at fault.
    pub async fn slice(&self, api: &Api, caller: Caller) -> Result<(Asked, Slice), Error> {
        let asked = Asked::new(self.page, self.limit, self.cursor.as_deref())?;
        let user = scope_of(api, caller, self.user_id.as_deref()).await?;
        Ok((asked, Slice { user, below: asked.below, limit: asked.rows(), offset: asked.offset }))
    }
}
