//! Sample calls and a sample campaign, so that a newcomer sees the queue at work. The numbers belong to nobody and only the simulator should ring them.

use serde_json::json;

use crate::config::{Config, ProviderKind};
use crate::db::Db;
use crate::domain::call::Priority;
use crate::domain::ids::{CallId, CampaignId, OPERATOR, grown_from, new_id};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::queue::recruit::{Into, Recruit, recruit};
use crate::queue::{self, NewCall, NewCampaign};
use crate::store::calls;

/// Sample calls: most due now, some later, two to one number, one promised for high priority.
const CALLS: u32 = 40;

/// Numbers of the sample campaign, set aside for fiction in New York, Chicago, Los Angeles and London: whom the law lets be called
/// now depends on the hour there.
const CAMPAIGN_NUMBERS: [&str; 4] = ["+1212555016", "+1312555016", "+1213555016", "+44207946020"];

/// Loads the samples unless the database has calls; says whether it did.
///
/// # Errors
/// Postgres is away.
pub async fn load_if_new(config: &Config, db: &Db) -> anyhow::Result<bool> {
    let is_new = calls::tallies(&db.read, None, None).await?.is_empty();
    if is_new {
        load(config, db).await?;
    }
    Ok(is_new)
}

/// Loads the samples; returns how many.
///
/// # Errors
/// A provider that would really dial them; Postgres is away.
pub async fn load(config: &Config, db: &Db) -> anyhow::Result<usize> {
    anyhow::ensure!(
        config.provider.kind == ProviderKind::Simulator,
        "sample calls are for the simulator only; the provider is {}",
        config.provider.kind.as_str()
    );
    let now = chrono::Utc::now();
    let calls: Result<Vec<NewCall>, crate::domain::phone::Error> = (0..CALLS)
        .map(|nth| {
            let priority = match nth % 10 {
                0 => Priority::High,
                9 => Priority::Low,
                _ => Priority::Normal,
            };
            // 555-01xx is set aside for fiction; every eighth call goes to one number, so that some have to wait their turn.
            let number = if nth % 8 == 7 { 100 } else { 101 + nth };
            Ok(NewCall {
                id: CallId(new_id()),
                user_id: OPERATOR,
                lane_id: OPERATOR.own_lane(),
                campaign_id: None,
                rank: priority.rank(),
                priority: priority.rank(),
                due_at: (nth >= 30).then(|| now + chrono::TimeDelta::seconds(i64::from(nth - 29) * 20)),
                expires_at: None,
                phone: PhoneNumber::parse(&format!("+1212555{number:04}"))?,
                script_id: "welcomeFlow".to_owned(),
                metadata: json!({"customerName": format!("Sample {nth}"), "campaign": "demo"}).into(),
                variables: RawJson::empty_object(),
                external_id: None,
                time_zone: None,
                ignore_window: false,
                prospect_id: None,
                dials_max: 3,
                reject_duplicate: false,
            })
        })
        .collect();
    Ok(queue::enqueue(&db.work, &calls?).await?.len() + load_campaign(db).await?)
}

async fn load_campaign(db: &Db) -> sqlx::Result<usize> {
    let id = CampaignId(new_id());
    let new = NewCampaign {
        id,
        user_id: OPERATOR,
        schedule_id: None,
        name: "Sample reminders".to_owned(),
        script_id: "reminder".to_owned(),
        max_concurrent_calls: 3,
        max_retries: 3,
        retry_delay_secs: 300,
        hours_in: "schedule",
        zone_policy: None,
        paused: false,
        external_id: None,
    };
    queue::create_campaign(&db.work, &new).await?;
    let rows: Vec<Recruit> = CAMPAIGN_NUMBERS
        .iter()
        .flat_map(|prefix| (0..5).map(move |nth| Recruit { number: format!("{prefix}{nth}"), ..Recruit::default() }))
        .collect();
    let into = Into::new(id, OPERATOR, new.script_id, new.max_retries);
    let verdicts = recruit(&db.work, &into, rows, |nth| CallId(grown_from(id.0, nth + 1))).await?;
    Ok(verdicts.iter().filter(|verdict| verdict.is_ok()).count())
}
