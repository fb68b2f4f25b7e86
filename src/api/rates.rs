//! What a minute costs, by prefix: for users' caps of cost a day. Data an admin loads.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::State;
use crate::api::auth::Caller;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{Json, Query};
use crate::api::faults::Faults;
use crate::api::paging::{Asked, PageQuery};
use crate::store::rates::{self, Rate};

const RATES_MAX: usize = 20_000;

/// `PUT /rates`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RatesInput {
    #[schema(max_items = 20000)]
    pub rates: Vec<Rate>,
}

/// How many rates there are now.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct RatesPut {
    pub rates: usize,
}

/// Puts these rates in place of all there are. While a user has a cap of cost, one of them must fit any number: an empty prefix. Needs an
/// admin key.
#[utoipa::path(put, path = "/rates", tag = "users", request_body = RatesInput,
    responses((status = 200, description = "How many there are now", body = Data<RatesPut>), Problems))]
pub async fn put_rates(
    state: State,
    caller: Caller,
    input: Json<RatesInput>,
) -> Result<axum::Json<Data<RatesPut>>, Error> {
    caller.require_admin()?;
    let rates = input.body.rates;
    let mut faults = Faults::default();
    if rates.len() > RATES_MAX {
        faults.add("rates", format!("may be at most {RATES_MAX}"));
    }
    let mut seen = HashSet::new();
    for (nth, rate) in rates.iter().enumerate() {
        if rate.prefix.len() > 15 || !rate.prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            faults.add(&format!("rates.{nth}.prefix"), "must be 0 to 15 digits, without +");
        } else if !seen.insert(rate.prefix.as_str()) {
            faults.add(&format!("rates.{nth}.prefix"), "stands there twice");
        }
        if !(0.0..=100_000.0).contains(&rate.per_minute) {
            faults.add(&format!("rates.{nth}.perMinute"), "must be 0 to 100000");
        }
    }
    faults.none()?;
    if !seen.contains("") && rates::needed(&state.0.db.read).await?.caps {
        return Err(Error::conflict(
            "rates_needed",
            "a user has a cap of cost: one rate must have an empty prefix, for any number",
        ));
    }
    rates::put(&state.0.db.work, &rates).await?;
    Ok(axum::Json(Data::of(RatesPut { rates: rates.len() })))
}

/// Rates, by prefix; `cursor` is the last prefix seen. Needs an admin key.
#[utoipa::path(get, path = "/rates", tag = "users", params(PageQuery),
    responses((status = 200, description = "The rates", body = Data<Vec<Rate>>), Problems))]
pub async fn list_rates(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Data<Vec<Rate>>>, Error> {
    caller.require_admin()?;
    let asked = Asked::new(query.page, query.limit, None)?;
    let rows = rates::list(&state.0.db.read, query.cursor.as_deref(), asked.rows() - 1).await?;
    Ok(axum::Json(Data::of(rows)))
}
