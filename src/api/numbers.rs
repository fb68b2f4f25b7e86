//! Phone numbers users know something about, and do-not-call lists. A number that becomes `do_not_call` stands on the list at once, and
//! the calls that wait for it end.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::calls::read::Whose;
use crate::api::envelope::{Data, Page};
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json, Query};
use crate::api::faults::Faults;
use crate::api::idempotent::{Answer, Key, once};
use crate::api::owner::{owner_of, scope_in_path, the_one, user_in_path};
use crate::api::paging::{Asked, PageQuery};
use crate::api::{Api, State};
use crate::domain::ids::{OPERATOR, UserId};
use crate::domain::phone::PhoneNumber;
use crate::queue::{self, Unsuppressed};
use crate::store::{Named, phone_numbers, suppressions};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberStatus {
    Valid,
    /// Enters no campaign.
    Invalid,
    /// Never dialed for this user.
    DoNotCall,
}

impl NumberStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::DoNotCall => "do_not_call",
        }
    }
}

/// `POST /phone-numbers`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownNumberInput {
    pub user_id: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    pub external_id: Option<String>,
    #[schema(example = "+14155550100")]
    pub number: String,
    pub status: Option<NumberStatus>,
}

/// `PATCH /phone-numbers/{id}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownNumberChanges {
    #[schema(example = "+14155550100")]
    pub number: Option<String>,
    pub status: Option<NumberStatus>,
}

async fn find(api: &Api, caller: Caller, id: &str, whose: &Whose) -> Result<phone_numbers::Row, Error> {
    let scope = scope_in_path(api, caller, whose.user_id.as_deref()).await?;
    the_one(phone_numbers::find(&api.db.read, &Named::from(id), scope).await?, "phone number")
}

async fn shown(api: &Api, id: Uuid) -> Result<phone_numbers::Row, Error> {
    let named = Named { id: Some(id), external_id: None };
    the_one(phone_numbers::find(&api.db.work, &named, None).await?, "phone number")
}

/// What forbids calls is answered only when nothing claimed before it can still be sent unseen.
async fn wait_for_claims(api: &Api, status: Option<NumberStatus>) {
    if status == Some(NumberStatus::DoNotCall) {
        tokio::time::sleep(api.limits.look_again_after).await;
    }
}

/// Creates a phone number.
#[utoipa::path(post, path = "/phone-numbers", tag = "campaigns", params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe: the first answer is given again for 24 h")),
    request_body = KnownNumberInput, responses((status = 201, description = "Created", body = Data<phone_numbers::Row>), Problems))]
pub async fn create_phone_number(
    state: State,
    caller: Caller,
    key: Key,
    input: Json<KnownNumberInput>,
) -> Result<Response<Body>, Error> {
    let body = input.body;
    let mut faults = Faults::default();
    let number = faults.checked_number("number", &body.number, state.0.limits.refuses_impossible);
    if let Some(external_id) = &body.external_id {
        faults.check_external_id(external_id);
    }
    faults.none()?;
    let number = number.ok_or_else(|| Error::invalid_field("number", "is needed"))?;
    let user = owner_of(&state.0, caller, body.user_id.as_deref()).await?;
    let status = body.status.unwrap_or(NumberStatus::Valid);
    let api = Arc::clone(&state.0);
    once(&state.0, caller.itself(), key, &input.hash, move |id| async move {
        let external_id = body.external_id.as_deref();
        queue::keep_number(&api.db.work, id, user, &number, status.as_str(), external_id).await?;
        wait_for_claims(&api, Some(status)).await;
        Answer::json(StatusCode::CREATED, &Data::of(shown(&api, id).await?))
    })
    .await
}

/// Phone numbers, newest first.
#[utoipa::path(get, path = "/phone-numbers", tag = "campaigns", params(PageQuery),
    responses((status = 200, description = "A page of phone numbers", body = Page<phone_numbers::Row>), Problems))]
pub async fn list_phone_numbers(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<phone_numbers::Row>>, Error> {
    let (asked, slice) = query.slice(&state.0, caller).await?;
    let (rows, total) = phone_numbers::list(&state.0.db.read, &slice).await?;
    Ok(axum::Json(asked.page(rows, total, |number| number.id)))
}

/// One phone number.
#[utoipa::path(get, path = "/phone-numbers/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The phone number", body = Data<phone_numbers::Row>), Problems))]
pub async fn get_phone_number(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<phone_numbers::Row>>, Error> {
    Ok(axum::Json(Data::of(find(&state.0, caller, &id, &whose).await?)))
}

/// Changes a phone number. `do_not_call` acts at once.
#[utoipa::path(patch, path = "/phone-numbers/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose), request_body = KnownNumberChanges,
    responses((status = 200, description = "The phone number as it is now", body = Data<phone_numbers::Row>), Problems))]
pub async fn update_phone_number(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
    changes: Json<KnownNumberChanges>,
) -> Result<axum::Json<Data<phone_numbers::Row>>, Error> {
    let row = find(&state.0, caller, &id, &whose).await?;
    let KnownNumberChanges { number, status } = changes.body;
    let mut faults = Faults::default();
    let number = number.and_then(|number| faults.checked_number("number", &number, state.0.limits.refuses_impossible));
    faults.none()?;
    let api = Arc::clone(&state.0);
    state
        .0
        .detached(async move {
            queue::change_number(&api.db.work, row.id, number.as_ref(), status.map(NumberStatus::as_str)).await?;
            wait_for_claims(&api, status).await;
            Ok(axum::Json(Data::of(shown(&api, row.id).await?)))
        })
        .await
}

/// Deletes a phone number. One that must not be called stays on the list.
#[utoipa::path(delete, path = "/phone-numbers/{id}", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete_phone_number(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<StatusCode, Error> {
    let row = find(&state.0, caller, &id, &whose).await?;
    phone_numbers::delete(&state.0.db.work, row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/suppressions`
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuppressionInput {
    #[schema(example = "+14155550100")]
    pub number: String,
    #[schema(max_length = 255)]
    pub reason: Option<String>,
}

/// A number on a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Suppressed {
    pub number: String,
    pub reason: Option<String>,
}

async fn add(api: &Arc<Api>, user: UserId, input: SuppressionInput) -> Result<Data<Suppressed>, Error> {
    let mut faults = Faults::default();
    let number = faults.check("number", PhoneNumber::parse(&input.number));
    if let Some(reason) = &input.reason {
        faults.check_name("reason", reason);
    }
    faults.none()?;
    let number = number.ok_or_else(|| Error::invalid_field("number", "is needed"))?;
    let inner = Arc::clone(api);
    api.detached(async move {
        queue::suppress(&inner.db.work, user, std::slice::from_ref(&number), input.reason.as_deref()).await?;
        wait_for_claims(&inner, Some(NumberStatus::DoNotCall)).await;
        Ok(Data::of(Suppressed { number: number.into(), reason: input.reason }))
    })
    .await
}

/// Lists of numbers have no id to go on from: there the cursor is a number.
///
/// # Errors
/// 400 when it is none.
pub fn number_above(query: &PageQuery) -> Result<Option<PhoneNumber>, Error> {
    let above = query.cursor.as_deref().map(PhoneNumber::parse).transpose();
    above.map_err(|_| Error::invalid_field("cursor", "is not a number"))
}

async fn list(api: &Api, user: UserId, query: &PageQuery) -> Result<Page<suppressions::Row>, Error> {
    let asked = Asked::new(query.page, query.limit, None)?;
    let above = number_above(query)?;
    let offset = if above.is_some() { 0 } else { asked.offset };
    let above = above.as_ref().map(PhoneNumber::as_str);
    let (rows, total) = suppressions::list(&api.db.read, user, above, asked.rows(), offset).await?;
    Ok(asked.page(rows, total, |row| row.number.clone()))
}

/// Why a number leaves a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Why {
    /// Needed where the callee asked not to be called, and only an admin may give it: it stands in the audit log with the entry.
    #[param(max_length = 255)]
    pub reason: Option<String>,
}

async fn remove(api: &Api, caller: Caller, user: UserId, number: &str, why: &Why) -> Result<StatusCode, Error> {
    let number = PhoneNumber::parse(number).map_err(|_| Error::not_found("number"))?;
    let mut faults = Faults::default();
    if let Some(reason) = &why.reason {
        faults.check_name("reason", reason);
    }
    faults.none()?;
    let is_admin = caller.require_admin().is_ok();
    let removal = why.reason.as_deref().filter(|_| is_admin).map(|reason| queue::Removal { admin: "admin", reason });
    match queue::unsuppress(&api.db.work, user, &number, removal).await? {
        Unsuppressed::Done => Ok(StatusCode::NO_CONTENT),
        Unsuppressed::NotListed => Err(Error::not_found("number")),
        Unsuppressed::Asked if is_admin => Err(Error::invalid_field(
            "reason",
            "is needed: the callee asked not to be called; the reason stands in the audit log",
        )),
        Unsuppressed::Asked => Err(Error::forbidden(
            "the callee asked not to be called: only an admin takes the number off, with a reason",
        )),
    }
}

/// Puts a number onto a user's do-not-call list; calls that wait for it end CANCELED.
#[utoipa::path(post, path = "/users/{id}/suppressions", tag = "campaigns", params(("id" = String, Path, description = "Id or external id")), request_body = SuppressionInput,
    responses((status = 201, description = "On the list", body = Data<Suppressed>), Problems))]
pub async fn suppress_for_user(
    state: State,
    caller: Caller,
    Id(id): Id,
    input: Json<SuppressionInput>,
) -> Result<(StatusCode, axum::Json<Data<Suppressed>>), Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok((StatusCode::CREATED, axum::Json(add(&state.0, user, input.body).await?)))
}

/// A user's do-not-call list, by number.
#[utoipa::path(get, path = "/users/{id}/suppressions", tag = "campaigns", params(("id" = String, Path, description = "Id or external id"), PageQuery),
    responses((status = 200, description = "A page of numbers", body = Page<suppressions::Row>), Problems))]
pub async fn list_suppressions_of_user(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<suppressions::Row>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok(axum::Json(list(&state.0, user, &query).await?))
}

/// Takes a number off a user's do-not-call list.
#[utoipa::path(delete, path = "/users/{id}/suppressions/{number}", tag = "campaigns",
    params(("id" = String, Path, description = "Id or external id"), ("number" = String, Path, description = "E.164, the plus as %2B"), Why),
    responses((status = 204, description = "Off the list"), Problems))]
pub async fn unsuppress_for_user(
    state: State,
    caller: Caller,
    Path((id, number)): Path<(String, String)>,
    Query(why): Query<Why>,
) -> Result<StatusCode, Error> {
    if id.contains('\0') {
        return Err(Error::not_found("user"));
    }
    let user = user_in_path(&state.0, caller, &id).await?;
    remove(&state.0, caller, user, &number, &why).await
}

/// Puts a number onto everybody's do-not-call list. Needs an admin key.
#[utoipa::path(post, path = "/suppressions", tag = "campaigns", request_body = SuppressionInput,
    responses((status = 201, description = "On the list", body = Data<Suppressed>), Problems))]
pub async fn suppress_for_all(
    state: State,
    caller: Caller,
    input: Json<SuppressionInput>,
) -> Result<(StatusCode, axum::Json<Data<Suppressed>>), Error> {
    caller.require_admin()?;
    Ok((StatusCode::CREATED, axum::Json(add(&state.0, OPERATOR, input.body).await?)))
}

/// Everybody's do-not-call list, by number. Needs an admin key.
#[utoipa::path(get, path = "/suppressions", tag = "campaigns", params(PageQuery),
    responses((status = 200, description = "A page of numbers", body = Page<suppressions::Row>), Problems))]
pub async fn list_suppressions(
    state: State,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<suppressions::Row>>, Error> {
    caller.require_admin()?;
    Ok(axum::Json(list(&state.0, OPERATOR, &query).await?))
}

/// Takes a number off everybody's do-not-call list. Needs an admin key.
#[utoipa::path(delete, path = "/suppressions/{number}", tag = "campaigns",
    params(("number" = String, Path, description = "E.164, the plus as %2B"), Why),
    responses((status = 204, description = "Off the list"), Problems))]
pub async fn unsuppress_for_all(
    state: State,
    caller: Caller,
    Id(number): Id,
    Query(why): Query<Why>,
) -> Result<StatusCode, Error> {
    caller.require_admin()?;
    remove(&state.0, caller, OPERATOR, &number, &why).await
}
