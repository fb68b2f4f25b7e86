//! Hours, judged again and in another way than the product does: by the callee's and the schedule's wall clocks at the moment of the
//! claim, from the rules as they are written, never from the lanes.

use chrono::{DateTime, NaiveDate, Timelike, Utc};
use chrono_tz::Tz;
use outdial::domain::hours::{Day, Span};
use outdial::domain::raw_json::RawJson;
use sqlx::Row;

use crate::world::{PHONES, World};

impl World {
    /// Calls claimed by this step at a time at which they must not be.
    pub async fn calls_out_of_hours(&mut self) -> Vec<String> {
        let sql = "select a.call_id::text, a.phone, a.claimed_at, c.ignore_window, c.campaign_id is not null as in_campaign,
              s.hours as schedule, s.time_zone, g.hours_in,
              coalesce((select hours from legal_hours where area = x.country), (select hours from legal_hours where area = '*')) as law
            from attempts a
            join calls c on c.id = a.call_id
            join lanes x on x.id = a.lane_id
            left join campaigns g on g.id = c.campaign_id
            left join schedules s on s.id = g.schedule_id
            where a.claimed_at = clock() and a.ended_at is null";
        let rows = sqlx::query(sql).fetch_all(&mut self.control).await.expect("claims");
        let mut faults = Vec::new();
        for row in rows {
            let (call, phone): (String, String) = (row.get(0), row.get(1));
            let (at, ignores, in_campaign): (DateTime<Utc>, bool, bool) = (row.get(2), row.get(3), row.get(4));
            let zone = PHONES.iter().find(|(number, _)| *number == phone).map_or("Etc/UTC", |(_, zone)| *zone);
            let law: RawJson = row.get("law");
            let mut rules = vec![(zone.to_owned(), law, "legal hours")];
            if in_campaign {
                let (schedule, schedule_zone, hours_in): (RawJson, String, String) =
                    (row.get("schedule"), row.get("time_zone"), row.get("hours_in"));
                let clock = if hours_in == "callee" { zone.to_owned() } else { schedule_zone };
                rules.push((clock, schedule, "its schedule"));
            } else if ignores {
                continue;
            }
            for (zone, hours, whose) in rules {
                let spans: Vec<Span> = hours.read().expect("hours");
                if !is_open(&spans, &zone, at) {
                    faults.push(format!("claimed outside {whose} in {zone}: {call} at {at}"));
                }
            }
        }
        faults
    }
}

/// Whether a wall clock in a zone is within one of the spans; one that closes at or before it opens goes on into the next day.
fn is_open(spans: &[Span], zone: &str, at: DateTime<Utc>) -> bool {
    let zone: Tz = zone.parse().expect("a zone");
    let local = at.with_timezone(&zone);
    let now = i64::from(local.time().num_seconds_from_midnight());
    let day = local.date_naive().signed_duration_since(NaiveDate::default()).num_days();
    spans.iter().any(|span| {
        let (opens, closes) = (span.opens.0, span.closes.0);
        let (today, yesterday) = (span.days.contains(&Day::of_epoch(day)), span.days.contains(&Day::of_epoch(day - 1)));
        if opens < closes {
            today && opens <= now && now < closes
        } else {
            (today && opens <= now) || (yesterday && now < closes)
        }
    })
}
