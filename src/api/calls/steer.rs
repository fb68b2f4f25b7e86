//! Changing, canceling, retrying and ending a call. Each is decided by the row at the moment it is changed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::calls::CallDetail;
use crate::api::calls::closed_for_good;
use crate::api::calls::input::check_times;
use crate::api::calls::read::{Whose, detail, find};
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::{Id, Json, Query};
use crate::api::faults::Faults;
use crate::api::{Api, State};
use crate::domain::call::{AttemptState, CallState, Priority};
use crate::domain::disposition::Disposition;
use crate::domain::ids::{AttemptId, CallId, UserId};
use crate::domain::phone::PhoneNumber;
use crate::domain::word::{Ended, Weight, Word, shortened};
use crate::outcome::inbox::Heard;
use crate::queue::{self, Amended, Amendment, Canceled, Retried};
use crate::store::{audit, calls};

/// `PATCH /calls/{id}`: what is given is changed.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallChanges {
    pub payload: Option<PayloadChanges>,
    pub priority: Option<Priority>,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PayloadChanges {
    /// E.164; every check runs again.
    pub to: Option<String>,
    pub script_id: Option<String>,
    /// Replaces the old metadata.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
}

impl CallChanges {
    fn read(self, now: DateTime<Utc>) -> Result<Amendment, Error> {
        let mut faults = Faults::default();
        let payload = self.payload.unwrap_or_default();
        let phone = payload.to.and_then(|to| faults.check("payload.to", PhoneNumber::parse(&to)));
        if let Some(script_id) = &payload.script_id {
            faults.check_script_id("payload.scriptId", script_id);
        }
        let metadata = payload.metadata.map(|metadata| faults.checked_object("payload.metadata", Some(metadata)));
        check_times(&mut faults, self.scheduled_at, self.expires_at, now);
        faults.none()?;
        Ok(Amendment {
            phone,
            script_id: payload.script_id,
            metadata,
            priority: self.priority.map(Priority::rank),
            due_at: self.scheduled_at,
            expires_at: self.expires_at,
        })
    }
}

/// Changes a call while it is PENDING; 409 afterwards.
#[utoipa::path(patch, path = "/calls/{id}", tag = "calls",
    params(("id" = String, Path, description = "Id or external id"), Whose),
    request_body = CallChanges,
    responses((status = 200, description = "The call as it is now", body = Data<CallDetail>), Problems))]
pub async fn update_call(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
    changes: Json<CallChanges>,
) -> Result<axum::Json<Data<CallDetail>>, Error> {
    let amendment = changes.body.read(Utc::now())?;
    steer(&state.0, caller, &id, &whose, move |api, call, scope| async move {
        match queue::amend(&api.db.work, call, scope, &amendment).await? {
            None => Err(Error::not_found("call")),
            Some(Amended::Done) => Ok(()),
            Some(Amended::Suppressed) => Err(Error::conflict("do_not_call", "the number is on a do-not-call list")),
            Some(Amended::ClosedForGood(why)) => Err(closed_for_good(why, "payload.to", amendment.phone.as_ref())),
            Some(Amended::CampaignsScript) => Err(Error::conflict(
                "campaigns_script",
                "payload.scriptId: the call belongs to a campaign and is dialed with its script",
            )),
            Some(Amended::NotWaiting(now)) => Err(wrong_state("changed while PENDING", now)),
        }
    })
    .await
}

/// Cancels a call: at once while PENDING; when it is live, the hang-up is asked of the provider.
#[utoipa::path(post, path = "/calls/{id}/cancel", tag = "calls",
    params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The call as it is now", body = Data<CallDetail>), Problems))]
pub async fn cancel_call(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<CallDetail>>, Error> {
    steer(&state.0, caller, &id, &whose, |api, call, scope| async move {
        match queue::cancel(&api.db.work, call, scope).await? {
            None => Err(Error::not_found("call")),
            Some(Canceled::AtOnce | Canceled::Asked | Canceled::TooLate(CallState::Canceled)) => Ok(()),
            Some(Canceled::TooLate(now)) => Err(wrong_state("canceled before it has ended", now)),
        }
    })
    .await
}

/// Gives a FAILED or EXPIRED call one more round of dials.
#[utoipa::path(post, path = "/calls/{id}/retry", tag = "calls",
    params(("id" = String, Path, description = "Id or external id"), Whose),
    responses((status = 200, description = "The call as it is now", body = Data<CallDetail>), Problems))]
pub async fn retry_call(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
) -> Result<axum::Json<Data<CallDetail>>, Error> {
    steer(&state.0, caller, &id, &whose, |api, call, scope| async move {
        match queue::retry(&api.db.work, call, scope, api.limits.max_attempts).await? {
            None => Err(Error::not_found("call")),
            Some(Retried::Waiting) => Ok(()),
            Some(Retried::Suppressed) => Err(Error::conflict("do_not_call", "the number is on a do-not-call list")),
            Some(Retried::CampaignOver) => {
                Err(Error::conflict("wrong_state", "the call's campaign is canceled for good"))
            }
            Some(Retried::NotEnded(now)) => Err(wrong_state("retried when FAILED or EXPIRED", now)),
        }
    })
    .await
}

/// `POST /calls/{id}/end`
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndInput {
    /// How it ended, as far as the person knows: COMPLETED, VOICEMAIL, NO_ANSWER, BUSY, WRONG_NUMBER, FAILED, or UNKNOWN (the default),
    /// after which the call is FAILED and not dialed again.
    #[schema(example = "UNKNOWN")]
    pub disposition: Option<Disposition>,
    /// Why a person ends it.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
    /// Who says so.
    #[schema(min_length = 1, max_length = 255)]
    pub by: Option<String>,
}

impl EndInput {
    fn read(self) -> Result<(Disposition, String, String), Error> {
        let mut faults = Faults::default();
        if self.reason.trim().is_empty() || self.reason.chars().count() > 200 {
            faults.add("reason", "must have 1 to 200 characters");
        }
        let by = self.by.unwrap_or_else(|| "admin".to_owned());
        faults.check_name("by", &by);
        let disposition = self.disposition.unwrap_or(Disposition::Unknown);
        if !matches!(
            disposition,
            Disposition::Completed
                | Disposition::Voicemail
                | Disposition::NoAnswer
                | Disposition::Busy
                | Disposition::WrongNumber
                | Disposition::Failed
                | Disposition::Unknown
        ) {
            faults.add(
                "disposition",
                "must be COMPLETED, VOICEMAIL, NO_ANSWER, BUSY, WRONG_NUMBER, FAILED or UNKNOWN; outcomes are told by POST /webhooks/outcome",
            );
        }
        faults.none()?;
        Ok((disposition, self.reason, by))
    }
}

/// Ends a live call by a person's word, when the provider has not said a thing and never will: its slot and number are free again. Hang
/// up at the provider first: this does not. What the provider says later still corrects UNKNOWN. Needs an admin key; kept in the audit
/// log.
#[utoipa::path(post, path = "/calls/{id}/end", tag = "calls",
    params(("id" = String, Path, description = "Id or external id"), Whose),
    request_body = EndInput,
    responses((status = 200, description = "The call as it is now", body = Data<CallDetail>), Problems))]
pub async fn end_call(
    state: State,
    caller: Caller,
    Id(id): Id,
    Query(whose): Query<Whose>,
    input: Json<EndInput>,
) -> Result<axum::Json<Data<CallDetail>>, Error> {
    caller.require_admin()?;
    let (disposition, reason, by) = input.body.read()?;
    steer(&state.0, caller, &id, &whose, move |api, call, scope| async move {
        let row = calls::get(&api.db.work, call, scope).await?.ok_or_else(|| Error::not_found("call"))?;
        let attempts = calls::attempts(&api.db.work, call).await?;
        let Some(open) = attempts.last().filter(|attempt| attempt.state != AttemptState::Ended) else {
            return Err(wrong_state("ended by hand while IN_PROGRESS", row.state));
        };
        let before = json!({"status": row.state.status(), "conversationId": open.id, "state": open.state});
        let after = json!({"disposition": disposition, "reason": reason});
        audit::write(&api.db.work, &by, "end_call", &call.to_string(), &before.into(), &after.into()).await?;
        tracing::warn!(call.id = %call, by, reason, "a call is ended by a person's word");
        // What nobody knows is corrected by whoever comes to know it.
        let weight = if disposition == Disposition::Unknown { Weight::Ours } else { Weight::Explicit };
        let hangup_cause = Some(shortened(&format!("ended by {by}: {reason}")));
        let word = Word::Ended(Ended { hangup_cause, ..Ended::of(disposition, weight) });
        match api.inbox.hear(Heard::about(AttemptId(open.id), word, "person")).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::unavailable(error.into())),
        }
    })
    .await
}

fn wrong_state(may: &str, now: CallState) -> Error {
    Error::conflict("wrong_state", format!("a call can be {may}; this one is {}", now.status().as_str()))
}

/// Does something to a call, detached from the client, and shows the call as it is then.
async fn steer<F>(
    api: &Arc<Api>,
    caller: Caller,
    id: &str,
    whose: &Whose,
    what: impl FnOnce(Arc<Api>, CallId, Option<UserId>) -> F,
) -> Result<axum::Json<Data<CallDetail>>, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (call, scope) = find(api, caller, id, whose).await?;
    api.detached(what(Arc::clone(api), call, scope)).await?;
    api.doorbell.ring();
    Ok(axum::Json(Data::of(detail(api, call, scope).await?)))
}
