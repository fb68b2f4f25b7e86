//! Numbers enter a campaign: each is checked, placed into the lane of its zones, and enqueued; a verdict each.
//!
//! Lists, CSV rows and single numbers all come through here. The ids of the calls are the caller's, so that rows which are repeated
//! after a crash are told from rows that were there before.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use serde_json::value::to_raw_value;
use sqlx::PgPool;

use crate::domain::call::{OBJECT_BYTES_MAX, rank};
use crate::domain::ids::{CallId, CampaignId, EXTERNAL_ID_CHARS_MAX, UserId, looks_like_ours};
use crate::domain::phone::PhoneNumber;
use crate::domain::place::Place;
use crate::domain::raw_json::{Fields, RawJson};
use crate::domain::window::ClosedBy;
use crate::domain::zone;
use crate::queue::windows::{Whose, lanes_for, place_of};
use crate::queue::{NewCall, Verdict, enqueue, suppress};

/// A number as it was given.
#[derive(Clone, Debug, Default)]
pub struct Recruit {
    pub number: String,
    pub name: Option<String>,
    pub external_id: Option<String>,
    /// The callee's zone, which outweighs what the number tells.
    pub time_zone: Option<String>,
    pub variables: Fields,
    /// What a list says of the number, or of the person: `DO_NOT_CALL`, `INVALID`, and of prospects `BOOKED` and so on.
    pub status: Option<String>,
    /// A time promised to the person (RFC 3339).
    pub rescheduled_for: Option<String>,
}

impl Recruit {
    /// Its status as a word of ours: `do not call`, `Do-Not-Call` and `DO_NOT_CALL` are the same.
    pub(super) fn status_word(&self) -> Option<String> {
        let written = self.status.as_deref().map(str::trim).filter(|status| !status.is_empty())?;
        Some(match written.to_uppercase().replace([' ', '-'], "_").as_str() {
            "DNC" | "DONOTCALL" => "DO_NOT_CALL".to_owned(),
            word => word.to_owned(),
        })
    }
}

/// Why a row did not become a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    InvalidNumber,
    InvalidTimeZone,
    InvalidExternalId,
    VariablesTooLarge,
    /// Of prospects: no status there is, or a promised time without the status RESCHEDULED, or no time at all.
    InvalidStatus,
    DuplicateInCampaign,
    /// Of prospects: the user has one with this number or external id.
    DuplicateProspect,
    ExternalIdTaken,
    DoNotCall,
    /// Its lane never opens.
    Closed(ClosedBy),
    /// The user has as many calls waiting as it may.
    QuotaExceeded,
    /// Postgres would not take this row.
    Unreadable,
}

impl Reason {
    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidNumber => "INVALID_NUMBER",
            Self::InvalidTimeZone => "INVALID_TIME_ZONE",
            Self::InvalidExternalId => "INVALID_EXTERNAL_ID",
            Self::VariablesTooLarge => "VARIABLES_TOO_LARGE",
            Self::InvalidStatus => "INVALID_STATUS",
            Self::DuplicateInCampaign => "DUPLICATE_IN_CAMPAIGN",
            Self::DuplicateProspect => "DUPLICATE_PROSPECT",
            Self::ExternalIdTaken => "EXTERNAL_ID_TAKEN",
            Self::DoNotCall => "DO_NOT_CALL",
            Self::Closed(why) => why.as_str(),
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::Unreadable => "UNREADABLE",
        }
    }
}

/// What a campaign's calls are made of.
#[derive(Clone, Debug)]
pub struct Into {
    pub campaign: CampaignId,
    pub user: UserId,
    pub script_id: String,
    pub dials_max: i16,
}

impl Into {
    /// Retries come on top of the first dial.
    #[must_use]
    pub fn new(campaign: CampaignId, user: UserId, script_id: String, max_retries: i32) -> Self {
        Self { campaign, user, script_id, dials_max: i16::try_from(max_retries + 1).unwrap_or(i16::MAX) }
    }
}

/// A row that may become a call.
struct Checked {
    nth: usize,
    phone: PhoneNumber,
    place: Place,
    row: Recruit,
}

/// Puts numbers into a campaign, verdicts in their order; `id_of` names the call of the nth row.
///
/// # Errors
/// Postgres is away; rows may have become calls by then, and a repeat with the same ids gives the same verdicts.
pub async fn recruit(
    pool: &PgPool,
    into: &Into,
    rows: Vec<Recruit>,
    id_of: impl Fn(usize) -> CallId,
) -> sqlx::Result<Vec<Result<CallId, Reason>>> {
    let mut verdicts: Vec<Result<CallId, Reason>> = vec![Err(Reason::InvalidNumber); rows.len()];
    let mut set = |nth: usize, verdict| {
        if let Some(slot) = verdicts.get_mut(nth) {
            *slot = verdict;
        }
    };
    let mut good = Vec::with_capacity(rows.len());
    let mut not_to_call = Vec::new();
    for (nth, row) in rows.into_iter().enumerate() {
        let status = row.status_word();
        match (check(nth, row), status.as_deref()) {
            (Err(reason), _) => set(nth, Err(reason)),
            (Ok(checked), Some("DO_NOT_CALL")) => {
                not_to_call.push(checked.phone);
                set(nth, Err(Reason::DoNotCall));
            }
            (Ok(_), Some("INVALID")) => set(nth, Err(Reason::InvalidNumber)),
            (Ok(checked), _) => good.push(checked),
        }
    }
    if !not_to_call.is_empty() {
        // The next list may not say so.
        suppress(pool, into.user, &not_to_call, Some("status in a list")).await?;
    }
    let phones: Vec<String> = good.iter().map(|row| row.phone.as_str().to_owned()).collect();
    let invalid: HashSet<String> = sqlx::query_file_scalar!("sql/queue/invalid_numbers.sql", into.user.0, &phones)
        .fetch_all(pool)
        .await?
        .into_iter()
        .collect();
    good.retain(|row| !invalid.contains(row.phone.as_str()));
    let lanes = lanes_for(pool, Whose::Campaign(into.campaign), good.iter().map(|row| &row.place)).await?;
    let mut calls = Vec::with_capacity(good.len());
    let mut places_in_list = Vec::with_capacity(good.len());
    for row in good {
        let lane = lanes.get(&row.place).map(|lane| lane.closed_for_good.map_or(Ok(lane), Err));
        match lane.unwrap_or(Err(ClosedBy::Never)) {
            Err(why) => set(row.nth, Err(Reason::Closed(why))),
            Ok(lane) => {
                places_in_list.push(row.nth);
                calls.push(NewCall { lane_id: lane.id, ..call_of(into, row, &id_of) });
            }
        }
    }
    let enqueued = if calls.is_empty() { Vec::new() } else { enqueue(pool, &calls).await? };
    let twins = twins_of(pool, into, &calls, &enqueued).await?;
    for ((nth, call), verdict) in places_in_list.into_iter().zip(&calls).zip(enqueued) {
        set(
            nth,
            match verdict {
                Verdict::Created { .. } => Ok(call.id),
                Verdict::Suppressed => Err(Reason::DoNotCall),
                Verdict::Duplicate { .. } => Err(Reason::DuplicateInCampaign),
                Verdict::Exists => match twins.get(call.phone.as_str()) {
                    Some(twin) if *twin == call.id => Ok(call.id),
                    Some(_) => Err(Reason::DuplicateInCampaign),
                    None => Err(Reason::ExternalIdTaken),
                },
            },
        );
    }
    Ok(verdicts)
}

/// What is right about a row whatever it becomes: its number, and its zone in its present name.
pub(super) fn checked(row: &mut Recruit) -> Result<PhoneNumber, Reason> {
    let phone = PhoneNumber::parse(&row.number).map_err(|_| Reason::InvalidNumber)?;
    row.time_zone = match row.time_zone.take().filter(|name| !name.trim().is_empty()) {
        Some(name) => Some(zone::canonical(name.trim()).ok_or(Reason::InvalidTimeZone)?.to_owned()),
        None => None,
    };
    row.external_id = row.external_id.take().filter(|id| !id.trim().is_empty());
    if row.external_id.as_deref().is_some_and(|id| looks_like_ours(id) || id.chars().count() > EXTERNAL_ID_CHARS_MAX) {
        return Err(Reason::InvalidExternalId);
    }
    row.name = row.name.take().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    // The name becomes one of them.
    let name_len = row.name.as_deref().map_or(0, str::len);
    if RawJson::of(&row.variables).written_len() + name_len > OBJECT_BYTES_MAX {
        return Err(Reason::VariablesTooLarge);
    }
    Ok(phone)
}

fn check(nth: usize, mut row: Recruit) -> Result<Checked, Reason> {
    let phone = checked(&mut row)?;
    let place = place_of(&phone, row.time_zone.as_deref());
    if let Some(name) = row.name.take() {
        // A text always becomes JSON.
        if let Ok(name) = to_raw_value(&name) {
            row.variables.entry("prospectName".to_owned()).or_insert(name);
        }
    }
    Ok(Checked { nth, phone, place, row })
}

fn call_of(into: &Into, row: Checked, id_of: &impl Fn(usize) -> CallId) -> NewCall {
    NewCall {
        id: id_of(row.nth),
        user_id: into.user,
        lane_id: into.user.own_lane(),
        campaign_id: Some(into.campaign),
        rank: rank::NORMAL,
        priority: rank::NORMAL,
        due_at: None,
        expires_at: None,
        phone: row.phone,
        script_id: into.script_id.clone(),
        metadata: json!({ "campaignId": into.campaign }).into(),
        variables: RawJson::of(&row.row.variables),
        external_id: row.row.external_id,
        time_zone: row.row.time_zone,
        ignore_window: false,
        prospect_id: None,
        dials_max: into.dials_max,
        reject_duplicate: false,
    }
}

/// For calls that exist already: which call of the campaign has their number.
async fn twins_of(
    pool: &PgPool,
    into: &Into,
    calls: &[NewCall],
    verdicts: &[Verdict],
) -> sqlx::Result<HashMap<String, CallId>> {
    let phones: Vec<String> = calls
        .iter()
        .zip(verdicts)
        .filter(|(_, verdict)| matches!(verdict, Verdict::Exists))
        .map(|(call, _)| call.phone.as_str().to_owned())
        .collect();
    if phones.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query_file!("sql/queue/in_campaign.sql", into.campaign.0, &phones).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.phone, CallId(row.id))).collect())
}
