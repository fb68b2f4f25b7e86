//! One call with all that happened to it, and lists.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::auth::Caller;
use crate::api::calls::{Call, CallDetail};
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Query};
use crate::api::owner::{scope_in_path, scope_of};
use crate::api::paging::Asked;
use crate::api::{Api, State};
use crate::domain::call::CallStatus;
use crate::domain::ids::{CallId, CampaignId, LaneId, UserId};
use crate::domain::phone::PhoneNumber;
use crate::queue::windows;
use crate::store::calls::{self, ByExternalId, Filter};

/// Whose call an external id means, when an admin's fits several.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Whose {
    /// The user's id or external id.
    pub user_id: Option<String>,
}

/// The call a path means, by id or external id.
///
/// # Errors
/// 404; 409 when an admin's external id fits several users' calls.
pub async fn find(api: &Api, caller: Caller, id: &str, whose: &Whose) -> Result<(CallId, Option<UserId>), Error> {
    let scope = scope_in_path(api, caller, whose.user_id.as_deref()).await?;
    if let Ok(id) = id.parse::<CallId>() {
        return Ok((id, scope));
    }
    match calls::find_external(&api.db.read, id, scope).await? {
        ByExternalId::One(id) => Ok((id, scope)),
        ByExternalId::None => Err(Error::not_found("call")),
        ByExternalId::Several => Err(Error::conflict(
            "ambiguous_external_id",
            "several users have a call with this external id: add ?userId=",
        )),
    }
}

/// One call, its attempts, and why it waits.
#[utoipa::path(get, path = "/calls/{id}", tag = "calls",
    params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The call", body = Data<CallDetail>), Problems))]
pub async fn get_call(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<CallDetail>>, Error> {
    let (call, scope) = find(&state.0, caller, &id, &whose).await?;
    Ok(axum::Json(Data::of(detail(&state.0, call, scope).await?)))
}

/// A call with all that happened to it.
///
/// # Errors
/// 404 when there is none in this scope.
pub async fn detail(api: &Api, call: CallId, scope: Option<UserId>) -> Result<CallDetail, Error> {
    let pool = &api.db.read;
    let row = calls::get(pool, call, scope).await?.ok_or_else(|| Error::not_found("call"))?;
    let attempts = calls::attempts(pool, call).await?;
    let (lane, due) = (LaneId(row.lane_id), row.due_at);
    let mut call_shown = Call::from(row);
    let waiting = if call_shown.status == CallStatus::Pending { calls::waiting(pool, call).await? } else { None };
    // Not before its time, not before what it waits for clears, and then when its lane is open next.
    let clears_at = waiting.as_ref().and_then(|waiting| waiting.clears_at);
    if call_shown.status == CallStatus::Pending {
        let due = clears_at.map_or(due, |clears_at| due.max(clears_at));
        let valid = windows::next_valid(pool, lane, due.max(Utc::now())).await?;
        let valid = valid.map(|valid| if valid <= Utc::now() { due } else { valid });
        // A single call of a user without hours is due when it is due.
        call_shown.next_attempt_at = if call_shown.campaign_id.is_none() { valid.or(Some(due)) } else { valid };
    }
    let waiting = waiting.map(|mut waiting| {
        if waiting.reason == "WINDOW_CLOSED" {
            waiting.clears_at = waiting.clears_at.or(call_shown.next_attempt_at);
        }
        waiting.into()
    });
    let conversations = attempts.into_iter().map(Into::into).collect();
    Ok(CallDetail { call: call_shown, conversations, waiting })
}

/// Which calls.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    pub status: Option<CallStatus>,
    /// The number called, in E.164 (the plus as %2B).
    pub to: Option<String>,
    #[param(value_type = Option<uuid::Uuid>)]
    pub campaign_id: Option<String>,
    /// The user's id or external id.
    pub user_id: Option<String>,
    /// Created at or after.
    pub from: Option<DateTime<Utc>>,
    /// Created before.
    pub until: Option<DateTime<Utc>>,
    /// Counted from 1.
    #[param(minimum = 1, maximum = 10000)]
    pub page: Option<i64>,
    /// Rows on a page: 1 to 100, 10 unless given.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<i64>,
    /// `nextCursor` of the page before; then `page` is ignored.
    #[param(value_type = Option<uuid::Uuid>)]
    pub cursor: Option<String>,
}

/// Calls, newest first.
#[utoipa::path(get, path = "/calls", tag = "calls", params(ListQuery),
    responses((status = 200, description = "A page of calls", body = Page<Call>), Problems))]
pub async fn list_calls(
    state: State,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<Call>>, Error> {
    let asked = Asked::new(query.page, query.limit, query.cursor.as_deref())?;
    let filter = filter_of(&state.0, caller, &query).await?;
    let pool = &state.0.db.read;
    let rows = calls::list(pool, &filter, asked.below.map(CallId), asked.rows(), asked.offset).await?;
    let total = calls::count(pool, &filter).await?;
    Ok(axum::Json(asked.page(rows.into_iter().map(Call::from).collect(), total, |call| call.id)))
}

async fn filter_of(api: &Api, caller: Caller, query: &ListQuery) -> Result<Filter, Error> {
    let user = scope_of(api, caller, query.user_id.as_deref()).await?;
    let phone = query.to.as_deref().map(PhoneNumber::parse).transpose();
    let in_range = |at: &DateTime<Utc>| (0..=9999).contains(&chrono::Datelike::year(at));
    if ![query.from, query.until].iter().flatten().all(in_range) {
        return Err(Error::invalid_field("from", "from and until must lie in the years 0 to 9999"));
    }
    Ok(Filter {
        user,
        status: query.status,
        phone: phone.map_err(|error| Error::invalid_field("to", error.to_string()))?.map(Into::into),
        campaign: parse_id::<CampaignId>("campaignId", query.campaign_id.as_deref())?,
        since: query.from,
        until: query.until,
    })
}

fn parse_id<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, Error> {
    text.map(|text| text.parse().map_err(|_| Error::invalid_field(name, "is not an id"))).transpose()
}
