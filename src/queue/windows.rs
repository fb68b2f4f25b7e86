//! When lanes are open: the one place that writes windows, and makes the lanes of campaigns and users.
//!
//! Schedules, users' hours, legal hours and zones are read under a lock of their own, windows are computed in Rust ([`Rules`]), and the lanes
//! are written under the admission lock: an edit moves a handful of lanes, never their calls. **Invariant:** a lane whose window
//! has passed is closed until the next is written, so that late means closed.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::domain::hours::Span;
use crate::domain::ids::{CallId, CampaignId, LaneId, OPERATOR, ScheduleId, UserId, new_id};
use crate::domain::phone::PhoneNumber;
use crate::domain::place::{Destination, Place};
use crate::domain::raw_json::RawJson;
use crate::domain::window::{self, ClosedBy, Opening, Rules, Schedule};
use crate::domain::zone::{self, Zone};
use crate::queue::{NewCall, feed};

/// Lanes written in one transaction.
const CHUNK: usize = 1000;
/// A window that goes on behind the horizon is looked at again this long before the horizon.
const AHEAD_SECS: i64 = 86_400;
/// A lane that never opens may open after a change of the calendar: it is looked at again so often.
const HOPELESS_SECS: i64 = 7 * 86_400;

/// Which lanes.
#[derive(Clone, Debug)]
pub enum Scope {
    Campaign(CampaignId),
    Schedule(ScheduleId),
    /// Those of a user's single calls.
    User(UserId),
    /// An IANA zone, a country, or `*`.
    Area(String),
    /// Those whose window has passed, at most so many.
    Due(i64),
}

/// Begins a change of what decides windows: it holds the lock of windows, so that nobody computes one meanwhile. To be ended by
/// [`commit`].
///
/// # Errors
/// Postgres is away, or the lock was not to be had within `lock_timeout`.
pub async fn change(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    pool.begin_with(include_str!("../../sql/queue/lock_windows.sql")).await
}

/// [`change`], and the admission lock alone: for changes whose triggers touch lanes.
///
/// # Errors
/// As [`change`].
pub async fn change_and_admit(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut change = change(pool).await?;
    sqlx::query_file!("sql/queue/lock_admission.sql").execute(&mut *change).await?;
    Ok(change)
}

/// Commits a change together with what follows from it: the windows of a few lanes are written at once; many are closed, and written
/// one after the other. No lane stays open by a rule that holds no longer.
///
/// # Errors
/// Postgres is away: then nothing has changed, or lanes that stayed closed are opened by the next tick.
pub async fn commit(pool: &PgPool, mut change: Transaction<'_, Postgres>, scope: Scope) -> sqlx::Result<()> {
    let lanes = lanes_in(&mut change, &scope).await?;
    if lanes.len() <= CHUNK {
        write(&mut change, &lanes, Held::AreWaitedFor).await?;
        return change.commit().await;
    }
    sqlx::query_file!("sql/queue/lock_admission.sql").execute(&mut *change).await?;
    sqlx::query_file!("sql/queue/close_lanes.sql", &lanes).execute(&mut *change).await?;
    change.commit().await?;
    reopen(pool, &lanes).await
}

/// Writes the windows of up to `limit` lanes whose time has come; returns how many.
///
/// # Errors
/// Postgres is away; lanes not written yet are closed past their window.
pub async fn reopen_due(pool: &PgPool, limit: i64) -> sqlx::Result<usize> {
    let lanes = lanes_in(&mut *pool.acquire().await?, &Scope::Due(limit)).await?;
    reopen(pool, &lanes).await?;
    Ok(lanes.len())
}

async fn reopen(pool: &PgPool, lanes: &[Uuid]) -> sqlx::Result<()> {
    for chunk in lanes.chunks(CHUNK) {
        let mut transaction = change(pool).await?;
        write(&mut transaction, chunk, Held::StayDue).await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn lanes_in(connection: &mut PgConnection, scope: &Scope) -> sqlx::Result<Vec<Uuid>> {
    let (campaign, schedule, user, area, limit) = match scope {
        Scope::Campaign(id) => (Some(id.0), None, None, None, 0),
        Scope::Schedule(id) => (None, Some(id.0), None, None, 0),
        Scope::User(id) => (None, None, Some(id.0), None, 0),
        Scope::Area(area) => (None, None, None, Some(area), 0),
        Scope::Due(limit) => (None, None, None, None, *limit),
    };
    let lanes = sqlx::query_file_scalar!("sql/queue/lanes_in_scope.sql", campaign, schedule, user, area, limit)
        .fetch_all(connection)
        .await?;
    Ok(lanes.into_iter().flatten().collect())
}

/// What becomes of lanes that another session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Their windows are over, or theirs alone: they are written by the next tick.
    StayDue,
    /// They may be open by a rule that holds no longer: all are written, or none.
    AreWaitedFor,
}

/// Computes windows, then takes the admission lock and writes them. Needs the lock of windows.
async fn write(connection: &mut PgConnection, lanes: &[Uuid], held: Held) -> sqlx::Result<()> {
    let now = clock(connection).await?;
    let rules = rules_of(connection, lanes).await?;
    let rows: Vec<(Uuid, Row)> = rules.into_iter().map(|(lane, ruling)| (lane, Row::of(&ruling, now))).collect();
    fn column<T>(rows: &[(Uuid, Row)], field: impl Fn(&Row) -> T) -> Vec<T> {
        rows.iter().map(|(_, row)| field(row)).collect()
    }
    let ids: Vec<Uuid> = rows.iter().map(|(lane, _)| *lane).collect();
    sqlx::query_file!("sql/queue/lock_admission.sql").execute(&mut *connection).await?;
    if held == Held::AreWaitedFor {
        sqlx::query_file!("sql/queue/hold_lanes.sql", &ids).fetch_all(&mut *connection).await?;
    }
    sqlx::query_file!(
        "sql/queue/open_lanes.sql",
        &ids,
        &column(&rows, |row| row.opens_at) as _,
        &column(&rows, |row| row.closes_at) as _,
        &column(&rows, |row| row.refresh_at) as _,
        &column(&rows, |row| row.closed_by.map(|why| why.as_str().to_owned())) as _,
        &column(&rows, |row| row.never),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The time every decision is made by: the database's.
async fn clock(connection: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_file_scalar!("sql/queue/clock.sql").fetch_one(connection).await
}

/// A lane's window as it is written; no time: since ever, or for ever.
struct Row {
    opens_at: Option<DateTime<Utc>>,
    closes_at: Option<DateTime<Utc>>,
    refresh_at: Option<DateTime<Utc>>,
    closed_by: Option<ClosedBy>,
    never: bool,
}

impl Row {
    /// Nobody has written hours for it.
    const ALWAYS: Self = Self { opens_at: None, closes_at: None, refresh_at: None, closed_by: None, never: false };

    fn of(ruling: &Ruling, now: DateTime<Utc>) -> Self {
        let at = |secs| DateTime::from_timestamp(secs, 0);
        let opening = match ruling {
            Ruling::Always => return Self::ALWAYS,
            Ruling::Never(why) => Opening::Never(*why),
            Ruling::By(rules) => rules.opening(now),
        };
        match opening {
            Opening::Window { window, closed_by } => Self {
                opens_at: at(window.opens),
                closes_at: at(window.closes),
                refresh_at: at(if window.goes_on { window.closes - AHEAD_SECS } else { window.closes }),
                closed_by,
                never: false,
            },
            Opening::Never(why) => Self {
                opens_at: at(-1),
                closes_at: at(0),
                refresh_at: at(now.timestamp() + HOPELESS_SECS),
                closed_by: Some(why),
                never: true,
            },
        }
    }
}

/// What decides about a lane.
enum Ruling {
    Always,
    /// Whatever the hour.
    Never(ClosedBy),
    By(Rules),
}

async fn rules_of(connection: &mut PgConnection, lanes: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Ruling)>> {
    let legal: HashMap<String, RawJson> = sqlx::query_file!("sql/queue/legal_hours.sql")
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .map(|row| (row.area, row.hours))
        .collect();
    // A law that cannot be read closes the lanes it is for, and no others.
    let law_of = |zone: &str, country: &str| {
        let law = [zone, country, "*"].iter().find_map(|area| legal.get(*area));
        law.map(read_hours).transpose()
    };
    let rows = sqlx::query_file!("sql/queue/rules_of_lanes.sql", lanes).fetch_all(connection).await?;
    let rules = rows.into_iter().map(|row| {
        if let Some(word) = row.barred {
            return (row.id, Ruling::Never(ClosedBy::for_good(&word).unwrap_or(ClosedBy::Destination)));
        }
        if row.always {
            return (row.id, Ruling::Always);
        }
        let read = || {
            let schedule = match (row.schedule_zone.as_deref(), row.hours) {
                (Some(zone), Some(hours)) => Some(Schedule {
                    zone: known(zone)?,
                    hours: read_hours(&hours)?,
                    closed_dates: row.closed_dates.unwrap_or_default(),
                    on_callees_clock: row.hours_in == "callee",
                }),
                _ => None,
            };
            let stand_in = row.schedule_zone.or(row.user_zone).filter(|_| row.zone_policy == "user");
            let zones = if row.zones.is_empty() { stand_in.into_iter().collect() } else { row.zones };
            let callee = zones
                .iter()
                .map(|name| Ok((known(name)?, law_of(name, &row.country)?)))
                .collect::<sqlx::Result<Vec<_>>>()?;
            Ok::<Rules, sqlx::Error>(Rules { schedule, callee })
        };
        // What cannot be read spoils its own lane, and closes it.
        let rules = read().unwrap_or_else(|error| {
            tracing::error!(lane.id = %row.id, %error, "the hours of a lane cannot be read; it is closed");
            Rules { schedule: None, callee: Vec::new() }
        });
        (row.id, Ruling::By(rules))
    });
    Ok(rules.collect())
}

fn known(zone: &str) -> sqlx::Result<Zone> {
    Zone::named(zone).ok_or_else(|| sqlx::Error::Decode(format!("no time zone {zone}").into()))
}

fn read_hours(hours: &RawJson) -> sqlx::Result<Vec<Span>> {
    hours.read().ok_or_else(|| sqlx::Error::Decode("the hours are no list of days with opens and closes".into()))
}

/// The next moment from `at` on at which a lane is open; none: never, or the lane has no hours.
///
/// # Errors
/// Postgres is away.
pub async fn next_valid(pool: &PgPool, lane: LaneId, at: DateTime<Utc>) -> sqlx::Result<Option<DateTime<Utc>>> {
    let mut connection = pool.acquire().await?;
    let rules = rules_of(&mut connection, &[lane.0]).await?;
    let opening = rules.into_iter().next().and_then(|(_, ruling)| match ruling {
        Ruling::By(rules) => Some(rules.opening(at)),
        Ruling::Always | Ruling::Never(_) => None,
    });
    Ok(opening.and_then(|opening| match opening {
        Opening::Window { window, .. } => DateTime::from_timestamp(window.opens, 0).map(|opens| opens.max(at)),
        Opening::Never(_) => None,
    }))
}

/// Whether hours on these dates ever open at all: for checking a schedule before it is kept.
#[must_use]
pub fn ever_opens(zone: &Zone, hours: &[Span], closed_dates: &[NaiveDate]) -> bool {
    let schedule = Schedule {
        zone: zone.clone(),
        hours: hours.to_vec(),
        closed_dates: closed_dates.to_vec(),
        on_callees_clock: false,
    };
    let rules = Rules { schedule: Some(schedule), callee: vec![(zone.clone(), None)] };
    window::next(&rules.clocks(), Utc::now().timestamp()).is_some()
}

/// Whose lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    Campaign(CampaignId),
    /// A user's single calls.
    User(UserId),
}

/// A lane that calls may be put into.
#[derive(Clone, Copy, Debug)]
pub struct PlacedLane {
    pub id: LaneId,
    /// Why it never opens; none: it does, or may once its zone is told.
    pub closed_for_good: Option<ClosedBy>,
}

/// The lanes of a campaign or a user for callees at these places; makes those that are missing.
///
/// # Errors
/// Postgres is away.
pub async fn lanes_for(
    pool: &PgPool,
    whose: Whose,
    places: impl IntoIterator<Item = &Place>,
) -> sqlx::Result<HashMap<Place, PlacedLane>> {
    let mut lanes = lanes_of(pool, whose).await?;
    let mut missing: Vec<&Place> = places.into_iter().filter(|place| !lanes.contains_key(place)).collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let mut transaction = change(pool).await?;
        sqlx::query_file!("sql/queue/lock_admission.sql").execute(&mut *transaction).await?;
        let ids: Vec<Uuid> = missing.iter().map(|_| new_id()).collect();
        let countries: Vec<String> = missing.iter().map(|place| place.country.clone()).collect();
        let zones: Vec<String> = missing.iter().map(|place| place.zones.join(" ")).collect();
        let destinations: Vec<String> = missing.iter().map(|place| place.destination.as_str().to_owned()).collect();
        match whose {
            Whose::Campaign(campaign) => {
                sqlx::query_file!("sql/queue/create_lanes.sql", campaign.0, &ids, &countries, &zones, &destinations)
                    .execute(&mut *transaction)
                    .await?
            }
            Whose::User(user) => {
                sqlx::query_file!("sql/queue/create_user_lanes.sql", user.0, &ids, &countries, &zones, &destinations)
                    .execute(&mut *transaction)
                    .await?
            }
        };
        write(&mut transaction, &ids, Held::StayDue).await?;
        transaction.commit().await?;
        lanes = lanes_of(pool, whose).await?;
    }
    Ok(lanes)
}

async fn lanes_of(pool: &PgPool, whose: Whose) -> sqlx::Result<HashMap<Place, PlacedLane>> {
    let (campaign, user) = match whose {
        Whose::Campaign(campaign) => (Some(campaign.0), None),
        Whose::User(user) => (None, Some(user.0)),
    };
    let rows = sqlx::query_file!("sql/queue/lanes_of.sql", campaign, user).fetch_all(pool).await?;
    let lanes = rows.into_iter().map(|row| {
        let known = |name: &String| if name == ANY_HOUR { Some(ANY_HOUR) } else { zone::canonical(name) };
        let zones = row.zones.iter().filter_map(known).collect();
        let destination = Destination::of_str(&row.destination).unwrap_or(Destination::Impossible);
        let closed_for_good = row.closed_by.as_deref().and_then(ClosedBy::for_good);
        (Place { country: row.country, zones, destination }, PlacedLane { id: LaneId(row.id), closed_for_good })
    });
    Ok(lanes.collect())
}

/// Where the callee is, by its number and the zone given with the call.
#[must_use]
pub fn place_of(number: &PhoneNumber, time_zone: Option<&str>) -> Place {
    let place = Place::of(number);
    match time_zone.and_then(zone::canonical) {
        Some(zone) => place.in_zone(zone),
        None => place,
    }
}

/// The zone of lanes whose calls ignore all windows.
const ANY_HOUR: &str = "*";

/// Where a single call belongs.
#[must_use]
pub fn place_of_single(number: &PhoneNumber, time_zone: Option<&str>, ignore_window: bool) -> Place {
    match ignore_window {
        true => Place { zones: vec![ANY_HOUR], ..Place::of(number) },
        false => place_of(number, time_zone),
    }
}

/// Puts single calls into the lanes they belong to; says which of them can never be dialed there, and why. The operator's have one lane,
/// open at any hour, where nobody's phone rings.
///
/// # Errors
/// Postgres is away.
pub async fn place(pool: &PgPool, calls: &mut [NewCall], sorts_operator: bool) -> sqlx::Result<Vec<Option<ClosedBy>>> {
    let mut users: BTreeMap<UserId, Vec<(usize, Place)>> = BTreeMap::new();
    for (nth, call) in calls.iter().enumerate() {
        if (call.user_id != OPERATOR || sorts_operator) && call.campaign_id.is_none() {
            let place = place_of_single(&call.phone, call.time_zone.as_deref(), call.ignore_window);
            users.entry(call.user_id).or_default().push((nth, place));
        }
    }
    let mut closed = vec![None; calls.len()];
    for (user, placed) in users {
        let lanes = lanes_for(pool, Whose::User(user), placed.iter().map(|(_, place)| place)).await?;
        for (nth, place) in placed {
            if let (Some(lane), Some(call), Some(closed)) = (lanes.get(&place), calls.get_mut(nth), closed.get_mut(nth))
            {
                call.lane_id = lane.id;
                *closed = lane.closed_for_good;
            }
        }
    }
    Ok(closed)
}

/// The rules in force about where and when, as this process was started with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Single calls of users without hours keep to the legal hours.
    pub obeys_hours: bool,
    /// Calls keep to the countries and kinds of numbers their user may have called.
    pub obeys_destinations: bool,
    /// The operator's single calls go into the lanes of their zones, like everybody's.
    pub sorts_operator: bool,
    /// Where users without a list of their own may call; none: anywhere.
    pub countries: Option<Vec<String>>,
}

/// Which edition of the rules of [`Place::of`] and [`PhoneNumber::parse`] this is: raised with each change of them, so that what waits is
/// looked at anew.
const PLACED_BY: i32 = 1;
/// Waiting calls looked at at once.
const LOOKED_AT_ONCE: i64 = 5000;
/// Calls moved in one transaction: claims wait for it, and what it compares grows with the square of them.
const MOVED_AT_ONCE: usize = 100;

/// Puts the rules in force: lanes are closed until their windows are written by them. What an older edition put into its lanes is
/// looked at before anything is dialed: it may belong elsewhere by now.
///
/// # Errors
/// Postgres is away.
pub async fn settle_rules(pool: &PgPool, rules: &InForce) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/queue/settle_rules.sql",
        rules.obeys_hours,
        rules.obeys_destinations,
        rules.sorts_operator,
        rules.countries.as_deref() as _
    )
    .fetch_one(pool)
    .await?;
    if sqlx::query_file_scalar!("sql/queue/placed_by.sql").fetch_one(pool).await? >= PLACED_BY {
        return Ok(());
    }
    let (mut after, mut looked, mut moved) = (Uuid::nil(), 0, 0);
    loop {
        let rows = sqlx::query_file!("sql/queue/waiting_calls.sql", after, LOOKED_AT_ONCE).fetch_all(pool).await?;
        let Some(last) = rows.last() else { break };
        (after, looked) = (last.id, looked + rows.len());
        let mut elsewhere: BTreeMap<Whose, Vec<(CallId, PhoneNumber, Place)>> = BTreeMap::new();
        for row in rows {
            let Ok(number) = PhoneNumber::parse(&row.phone) else { continue };
            let place = place_of(&number, row.time_zone.as_deref());
            let is_there = row.country == place.country
                && row.zones.iter().eq(place.zones.iter())
                && row.destination == place.destination.as_str();
            if !is_there || number.as_str() != row.phone || number.identity() != row.phone {
                let whose = match row.campaign_id {
                    Some(campaign) => Whose::Campaign(CampaignId(campaign)),
                    None => Whose::User(UserId(row.user_id)),
                };
                elsewhere.entry(whose).or_default().push((CallId(row.id), number, place));
            }
        }
        for (whose, calls) in elsewhere {
            moved += move_to_lanes(pool, whose, calls).await?;
        }
        tracing::info!(looked, moved, "looking where and when waiting calls may be dialed by the present rules");
    }
    sqlx::query_file!("sql/queue/now_placed_by.sql", PLACED_BY).execute(pool).await?;
    Ok(())
}

async fn move_to_lanes(pool: &PgPool, whose: Whose, calls: Vec<(CallId, PhoneNumber, Place)>) -> sqlx::Result<i64> {
    let found = lanes_for(pool, whose, calls.iter().map(|(.., place)| place)).await?;
    let moves: Vec<_> = calls
        .into_iter()
        .filter_map(|(call, number, place)| found.get(&place).map(|lane| (call, lane.id, String::from(number))))
        .collect();
    move_calls(pool, &moves).await
}

/// How many were moved: what somebody's session holds stays where it is.
async fn move_calls(pool: &PgPool, moves: &[(CallId, LaneId, String)]) -> sqlx::Result<i64> {
    let mut moved = 0;
    for chunk in moves.chunks(MOVED_AT_ONCE) {
        let ids: Vec<Uuid> = chunk.iter().map(|(call, ..)| call.0).collect();
        let lanes: Vec<Uuid> = chunk.iter().map(|(_, lane, _)| lane.0).collect();
        let numbers: Vec<String> = chunk.iter().map(|(.., number)| number.clone()).collect();
        let mut transaction = feed(pool).await?;
        moved +=
            sqlx::query_file_scalar!("sql/queue/sort.sql", &ids, &lanes, &numbers).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(moved)
}

/// Places up to `limit` calls that plain SQL has brought in; returns how many. What somebody's session holds waits.
///
/// # Errors
/// Postgres is away.
pub async fn sort(pool: &PgPool, limit: i64) -> sqlx::Result<i64> {
    let rows = sqlx::query_file!("sql/queue/unsorted.sql", limit).fetch_all(pool).await?;
    let mut users: BTreeMap<UserId, Vec<(CallId, PhoneNumber, Place)>> = BTreeMap::new();
    let mut of_operator = Vec::new();
    for row in rows {
        if row.user_id == OPERATOR.0 && !row.sorts_operator {
            of_operator.push((CallId(row.id), LaneId(OPERATOR.0), row.phone));
        } else if let Ok(number) = PhoneNumber::parse(&row.phone) {
            let place = place_of_single(&number, row.time_zone.as_deref(), row.ignore_window);
            users.entry(UserId(row.user_id)).or_default().push((CallId(row.id), number, place));
        }
    }
    let mut sorted = move_calls(pool, &of_operator).await?;
    for (user, calls) in users {
        sorted += move_to_lanes(pool, Whose::User(user), calls).await?;
    }
    Ok(sorted)
}
