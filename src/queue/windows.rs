//! When lanes are open: the one place that writes windows, and makes the lanes of campaigns.
//!
//! Schedules, legal hours and zones are read under a lock of their own, windows are computed in Rust ([`Rules`]), and the lanes
//! are written under the admission lock: an edit moves a handful of lanes, never their calls. **Invariant:** a lane whose window
//! has passed is closed until the next is written, so that late means closed.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::hours::Span;
use crate::domain::ids::{CampaignId, LaneId, ScheduleId, new_id};
use crate::domain::place::Place;
use crate::domain::window::{self, ClosedBy, Opening, Rules, Schedule};
use crate::domain::zone::Zone;

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
    /// An IANA zone, a country, or `*`.
    Area(String),
    /// Those whose window has passed, at most so many.
    Due(i64),
}

/// Writes the windows of lanes anew; returns how many.
///
/// # Errors
/// Postgres is away; lanes not written yet keep their window, and no longer than that.
pub async fn reopen(pool: &PgPool, scope: Scope) -> sqlx::Result<usize> {
    let (campaign, schedule, area, limit) = match scope {
        Scope::Campaign(id) => (Some(id.0), None, None, 0),
        Scope::Schedule(id) => (None, Some(id.0), None, 0),
        Scope::Area(area) => (None, None, Some(area), 0),
        Scope::Due(limit) => (None, None, None, limit),
    };
    let lanes: Vec<Uuid> = sqlx::query_file_scalar!("sql/queue/lanes_in_scope.sql", campaign, schedule, area, limit)
        .fetch_all(pool)
        .await?
        .into_iter()
        .flatten()
        .collect();
    for chunk in lanes.chunks(CHUNK) {
        let mut connection = pool.acquire().await?;
        let mut transaction = connection.begin_with(include_str!("../../sql/queue/lock_windows.sql")).await?;
        write(&mut transaction, chunk).await?;
        transaction.commit().await?;
    }
    Ok(lanes.len())
}

/// Computes windows, then takes the admission lock and writes them. Needs the lock of windows.
async fn write(connection: &mut PgConnection, lanes: &[Uuid]) -> sqlx::Result<()> {
    let now = Utc::now();
    let rules = rules_of(connection, lanes).await?;
    let rows: Vec<(Uuid, Row)> =
        rules.into_iter().map(|(lane, rules)| (lane, Row::of(rules.opening(now), now))).collect();
    fn column<T>(rows: &[(Uuid, Row)], field: impl Fn(&Row) -> T) -> Vec<T> {
        rows.iter().map(|(_, row)| field(row)).collect()
    }
    let ids: Vec<Uuid> = rows.iter().map(|(lane, _)| *lane).collect();
    sqlx::query_file!("sql/queue/lock_admission.sql").execute(&mut *connection).await?;
    sqlx::query_file!(
        "sql/queue/open_lanes.sql",
        &ids,
        &column(&rows, |row| row.opens_at),
        &column(&rows, |row| row.closes_at),
        &column(&rows, |row| row.refresh_at),
        &column(&rows, |row| row.closed_by.map(|why| why.as_str().to_owned())) as _,
        &column(&rows, |row| row.never),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A lane's window as it is written.
struct Row {
    opens_at: DateTime<Utc>,
    closes_at: DateTime<Utc>,
    refresh_at: DateTime<Utc>,
    closed_by: Option<ClosedBy>,
    never: bool,
}

impl Row {
    fn of(opening: Opening, now: DateTime<Utc>) -> Self {
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap_or(now);
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

async fn rules_of(connection: &mut PgConnection, lanes: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Rules)>> {
    let legal: HashMap<String, Vec<Span>> = sqlx::query_file!("sql/queue/legal_hours.sql")
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .map(|row| Ok((row.area, read_hours(row.hours)?)))
        .collect::<sqlx::Result<_>>()?;
    let law_of = |zone: &str, country: &str| [zone, country, "*"].iter().find_map(|area| legal.get(*area)).cloned();
    let rows = sqlx::query_file!("sql/queue/rules_of_lanes.sql", lanes).fetch_all(connection).await?;
    let rules = rows.into_iter().map(|row| {
        let schedule = match (row.schedule_zone.as_deref(), row.hours) {
            (Some(zone), Some(hours)) => Some(Schedule {
                zone: known(zone)?,
                hours: read_hours(hours)?,
                closed_dates: row.closed_dates.unwrap_or_default(),
                on_callees_clock: row.hours_in == "callee",
            }),
            _ => None,
        };
        let stand_in = row.schedule_zone.or(row.user_zone).filter(|_| row.zone_policy == "user");
        let zones = if row.zones.is_empty() { stand_in.into_iter().collect() } else { row.zones };
        let callee = zones
            .iter()
            .map(|name| Ok((known(name)?, law_of(name, &row.country))))
            .collect::<sqlx::Result<Vec<_>>>()?;
        Ok((row.id, Rules { schedule, callee }))
    });
    rules.collect()
}

fn known(zone: &str) -> sqlx::Result<Zone> {
    Zone::named(zone).ok_or_else(|| sqlx::Error::Decode(format!("no time zone {zone}").into()))
}

fn read_hours(hours: Value) -> sqlx::Result<Vec<Span>> {
    serde_json::from_value(hours).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// The next moment from `at` on at which a lane of a campaign is open; none: never, or the lane has no hours.
///
/// # Errors
/// Postgres is away.
pub async fn next_valid(pool: &PgPool, lane: LaneId, at: DateTime<Utc>) -> sqlx::Result<Option<DateTime<Utc>>> {
    let mut connection = pool.acquire().await?;
    let rules = rules_of(&mut connection, &[lane.0]).await?;
    Ok(rules.into_iter().next().and_then(|(_, rules)| match rules.opening(at) {
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

/// A lane that calls may be put into.
#[derive(Clone, Debug)]
pub struct CampaignLane {
    pub id: LaneId,
    /// It never opens (and not for want of a zone, which may yet be told).
    pub never_opens: bool,
}

/// The lanes of a campaign for callees at these places; makes those that are missing.
///
/// # Errors
/// Postgres is away.
pub async fn lanes_for(
    pool: &PgPool,
    campaign: CampaignId,
    places: impl IntoIterator<Item = &Place>,
) -> sqlx::Result<HashMap<Place, CampaignLane>> {
    let mut lanes = lanes_of(pool, campaign).await?;
    let mut missing: Vec<&Place> = places.into_iter().filter(|place| !lanes.contains_key(place)).collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let mut connection = pool.acquire().await?;
        let mut transaction = connection.begin_with(include_str!("../../sql/queue/lock_windows.sql")).await?;
        sqlx::query_file!("sql/queue/lock_admission.sql").execute(&mut *transaction).await?;
        let ids: Vec<Uuid> = missing.iter().map(|_| new_id()).collect();
        let countries: Vec<String> = missing.iter().map(|place| place.country.clone()).collect();
        let zones: Vec<String> = missing.iter().map(|place| place.zones.join(" ")).collect();
        sqlx::query_file!("sql/queue/create_lanes.sql", campaign.0, &ids, &countries, &zones)
            .execute(&mut *transaction)
            .await?;
        write(&mut transaction, &ids).await?;
        transaction.commit().await?;
        lanes = lanes_of(pool, campaign).await?;
    }
    Ok(lanes)
}

async fn lanes_of(pool: &PgPool, campaign: CampaignId) -> sqlx::Result<HashMap<Place, CampaignLane>> {
    let rows = sqlx::query_file!("sql/queue/lanes_of_campaign.sql", campaign.0).fetch_all(pool).await?;
    let never = ClosedBy::Never.as_str();
    let lanes = rows.into_iter().map(|row| {
        let zones = row.zones.iter().filter_map(|zone| crate::domain::zone::canonical(zone)).collect();
        let lane = CampaignLane { id: LaneId(row.id), never_opens: row.closed_by.as_deref() == Some(never) };
        (Place { country: row.country, zones }, lane)
    });
    Ok(lanes.collect())
}
