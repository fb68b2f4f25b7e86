//! The shape of successful answers.

use serde::Serialize;
use utoipa::ToSchema;

/// `{"success":true,"data":…}`
#[derive(Debug, Serialize, ToSchema)]
pub struct Data<T> {
    /// Always true.
    pub success: bool,
    pub data: T,
}

impl<T> Data<T> {
    pub fn of(data: T) -> Self {
        Self { success: true, data }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// Always true.
    pub success: bool,
    pub data: Vec<T>,
    pub pagination: Pagination,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    pub page: i64,
    pub limit: i64,
    /// Of the whole list; filtered by number or time, counted up to 100,000.
    pub total: i64,
    pub total_pages: i64,
    /// Give it as `cursor` for the page below this one; null on the last.
    pub next_cursor: Option<String>,
}
