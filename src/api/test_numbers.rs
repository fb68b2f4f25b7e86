//! Numbers of people who test: the rule on how often a phone rings does not hold for them. Data an admin keeps.

use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::State;
use crate::api::auth::Caller;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{Json, Query};
use crate::api::faults::Faults;
use crate::api::numbers::number_above;
use crate::api::paging::{Asked, PageQuery};
use crate::domain::phone::PhoneNumber;
use crate::store::test_numbers::{self, Row};

/// `POST /test-numbers`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestNumberInput {
    #[schema(example = "+14155550100")]
    pub number: String,
    /// Whose it is.
    #[schema(min_length = 1, max_length = 255)]
    pub note: Option<String>,
}

/// Lists the number of somebody who tests; one that is listed gets the note. Needs an admin key.
#[utoipa::path(post, path = "/test-numbers", tag = "campaigns", request_body = TestNumberInput,
    responses((status = 201, description = "Listed", body = Data<Row>), Problems))]
pub async fn add_test_number(
    state: State,
    caller: Caller,
    input: Json<TestNumberInput>,
) -> Result<(StatusCode, axum::Json<Data<Row>>), Error> {
    caller.require_admin()?;
    let mut faults = Faults::default();
    let number = faults.check("number", PhoneNumber::parse(&input.body.number));
    if let Some(note) = &input.body.note {
        faults.check_name("note", note);
    }
    faults.none()?;
    let number = number.ok_or_else(|| Error::invalid_field("number", "is needed"))?;
    let row = test_numbers::put(&state.0.db.work, &number, input.body.note.as_deref()).await?;
    tracing::warn!("a number is listed as one of somebody who tests: it may be called as often as somebody likes");
    Ok((StatusCode::CREATED, axum::Json(Data::of(row))))
}

/// Numbers of people who test, by number; `cursor` is the last one seen. Needs an admin key.
#[utoipa::path(get, path = "/test-numbers", tag = "campaigns", params(PageQuery),
    responses((status = 200, description = "The numbers", body = Data<Vec<Row>>), Problems))]
pub async fn list_test_numbers(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Data<Vec<Row>>>, Error> {
    caller.require_admin()?;
    let asked = Asked::new(query.page, query.limit, None)?;
    let above = number_above(&query)?;
    let rows = test_numbers::list(&state.0.db.read, above.as_ref().map(PhoneNumber::as_str), asked.rows() - 1).await?;
    Ok(axum::Json(Data::of(rows)))
}

/// Takes a number off the list of those who test. Needs an admin key.
#[utoipa::path(delete, path = "/test-numbers/{number}", tag = "campaigns",
    params(("number" = String, Path, description = "E.164")),
    responses((status = 204, description = "Taken off"), Problems))]
pub async fn remove_test_number(
    state: State,
    caller: Caller,
    axum::extract::Path(number): axum::extract::Path<String>,
) -> Result<StatusCode, Error> {
    caller.require_admin()?;
    let number = PhoneNumber::parse(&number).map_err(|_| Error::not_found("number"))?;
    match test_numbers::delete(&state.0.db.work, &number).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Error::not_found("number")),
    }
}
