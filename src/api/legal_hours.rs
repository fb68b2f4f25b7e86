//! Legal hours: when the law lets people be called, by zone or country. Data an admin keeps; `*` is the rule for everywhere else.

use std::sync::Arc;

use axum::http::StatusCode;
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::State;
use crate::api::auth::Caller;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::Json;
use crate::api::faults::Faults;
use crate::domain::hours::Span;
use crate::domain::place::is_country;
use crate::domain::zone;
use crate::queue::windows::{self, Scope};
use crate::store::legal_hours::{self, Row};

/// `POST /legal-hours`: the rule of an area, new or changed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegalHoursInput {
    /// An IANA time zone, an ISO 3166 country, or * for everywhere else.
    #[schema(example = "AE")]
    pub area: String,
    #[schema(min_items = 1, max_items = 100)]
    pub hours: Vec<Span>,
    /// The law or regulation.
    #[schema(min_length = 1, max_length = 255)]
    pub source: String,
    /// When somebody looked it up.
    pub as_of: NaiveDate,
}

/// The area as it is kept: an old name of a zone is the zone's.
fn area_of(text: &str) -> Option<&str> {
    if text == "*" || is_country(text) { Some(text) } else { zone::canonical(text) }
}

/// All rules.
#[utoipa::path(get, path = "/legal-hours", tag = "campaigns",
    responses((status = 200, description = "The rules by area", body = Data<Vec<Row>>), Problems))]
pub async fn list_legal_hours(state: State, _: Caller) -> Result<axum::Json<Data<Vec<Row>>>, Error> {
    Ok(axum::Json(Data::of(legal_hours::list(&state.0.db.read).await?)))
}

/// Writes the rule of an area; waiting calls follow at once. Needs an admin key.
#[utoipa::path(post, path = "/legal-hours", tag = "campaigns", request_body = LegalHoursInput,
    responses((status = 200, description = "All rules as they are now", body = Data<Vec<Row>>), Problems))]
pub async fn put_legal_hours(
    state: State,
    caller: Caller,
    input: Json<LegalHoursInput>,
) -> Result<axum::Json<Data<Vec<Row>>>, Error> {
    caller.require_admin()?;
    let body = input.body;
    let mut faults = Faults::default();
    let area = area_of(&body.area).map(str::to_owned);
    if area.is_none() {
        faults.add("area", "must be an IANA time zone, a country such as US, or *");
    }
    faults.check_hours(&body.hours);
    faults.check_name("source", &body.source);
    faults.checked_dates("asOf", vec![body.as_of]);
    faults.none()?;
    let area = area.ok_or_else(|| Error::invalid_field("area", "is needed"))?;
    let api = Arc::clone(&state.0);
    state
        .0
        .detached(async move {
            let mut change = windows::change(&api.db.work).await?;
            legal_hours::put(&mut change, &area, &body.hours, &body.source, body.as_of).await?;
            tracing::info!(area, source = body.source, "legal hours changed");
            windows::commit(&api.db.work, change, Scope::Area(area)).await?;
            api.doorbell.ring();
            Ok(axum::Json(Data::of(legal_hours::list(&api.db.work).await?)))
        })
        .await
}

/// Drops the rule of an area: its country's, or the one for everywhere, holds then. Needs an admin key.
#[utoipa::path(delete, path = "/legal-hours/{area}", tag = "campaigns",
    params(("area" = String, Path, description = "The area; a slash of a zone's name as %2F")),
    responses((status = 204, description = "Dropped"), Problems))]
pub async fn delete_legal_hours(
    state: State,
    caller: Caller,
    axum::extract::Path(area): axum::extract::Path<String>,
) -> Result<StatusCode, Error> {
    caller.require_admin()?;
    if area == "*" {
        return Err(Error::conflict("in_use", "the rule for everywhere else can be changed, not dropped"));
    }
    let api = Arc::clone(&state.0);
    state
        .0
        .detached(async move {
            let Some(area) = area_of(&area).map(str::to_owned) else { return Err(Error::not_found("rule")) };
            let mut change = windows::change(&api.db.work).await?;
            if !legal_hours::delete(&mut change, &area).await? {
                return Err(Error::not_found("rule"));
            }
            windows::commit(&api.db.work, change, Scope::Area(area)).await?;
            api.doorbell.ring();
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
