//! The end of a run: nothing disturbs any more, every phone is picked up, and whoever waits must come to an end.

use chrono::{DateTime, TimeDelta, Utc};
use outdial::domain::disposition::Disposition;
use outdial::domain::ids::CallId;
use outdial::domain::word::{Ended, Weight, Word};
use outdial::executor::inquiry;
use outdial::outcome::inbox::Heard;
use outdial::provider::Placed;
use outdial::queue::{self, CampaignChanges};

use crate::exchange::{id_at_provider, lock};
use crate::world::World;

/// Calls that are waited for; the others are canceled, so that it does not take weeks.
const KEPT: usize = 12;
/// Looks at what happens next, until everybody should have been called.
const ROUNDS: usize = 300;
/// When something is to happen next.
const NEXT: &str = "select least(
    (select min(next_at) from user_turns where next_at > clock()),
    (select min(refresh_at) from lanes where refresh_at > clock()),
    (select min(due_at) from calls where state = 'waiting' and due_at > clock()),
    (select min(check_at) from attempts where ended_at is null and check_at > clock()),
    clock() + interval '12 hours')";
/// Calls that are not over, in lanes that open soon: hours drawn by chance may leave others a day in November, or none.
const OPEN: &str = "select c.id from calls c join lanes l on l.id = c.lane_id
    where c.state = 'live'
      or (c.state in ('waiting', 'parked') and l.closes_at > '1970-01-01' and l.opens_at < clock() + interval '3 days')
    order by c.id";

impl World {
    /// Waits until every call that may be dialed is over; those that never are, and sleepers.
    pub async fn come_to_rest(&mut self) -> Vec<String> {
        if self.read_only {
            self.write_protect(false).await;
        }
        self.pass(TimeDelta::seconds(60)).await;
        self.calm_down().await;
        lock(&self.exchange).answers = true;
        for (campaign, _) in self.campaigns.clone() {
            let to = CampaignChanges { paused: Some(false), ..CampaignChanges::default() };
            let done = queue::update_campaign(&self.db.work, campaign, &to).await;
            self.note("resume", done);
        }
        for call in self.open_calls().await.into_iter().skip(KEPT) {
            let done = queue::cancel(&self.db.work, call, None).await;
            self.note("cancel", done);
        }
        let mut left = Vec::new();
        for _ in 0..ROUNDS {
            for at in 0..self.processes.len() {
                self.round(at).await;
            }
            let faults = self.faults().await;
            if !faults.is_empty() {
                return faults;
            }
            left = self.open_calls().await;
            if left.is_empty() {
                return Vec::new();
            }
            let next: DateTime<Utc> = sqlx::query_scalar(NEXT).fetch_one(&mut self.control).await.expect("next");
            self.pass((next - self.now).max(TimeDelta::milliseconds(500))).await;
        }
        left.into_iter().map(|call| format!("never came to an end {call}")).collect()
    }

    async fn open_calls(&mut self) -> Vec<CallId> {
        sqlx::query_scalar(OPEN).fetch_all(&mut self.control).await.expect("open calls")
    }

    /// Everything one process does, and a provider that takes every call and ends it.
    async fn round(&mut self, at: usize) {
        let line = std::sync::Arc::clone(&self.processes[at].line);
        let done = line.lease.renew(&line.pool, "all", "simulation").await;
        self.note("renew", done);
        self.processes[at].scheduler.tick().await;
        let done = inquiry::rescue(&line).await;
        self.note("rescue", done);
        let done = inquiry::ask_all(&line).await;
        self.note("inquire", done);
        self.pass(TimeDelta::milliseconds(2)).await;
        self.turn(at).await;
        // The second of two steps.
        self.pass(TimeDelta::milliseconds(2)).await;
        self.turn(at).await;
        self.pick_up();
        self.settle_down().await;
        self.pass(TimeDelta::milliseconds(2)).await;
        self.turn(at).await;
        let ended = self.hang_up();
        for heard in
            ended.into_iter().chain(std::mem::take(&mut self.webhooks).into_iter().map(|webhook| webhook.heard))
        {
            self.processes[at].inbox.tell(heard);
        }
        self.pass(TimeDelta::milliseconds(2)).await;
        self.turn(at).await;
    }

    /// Every request is taken.
    fn pick_up(&mut self) {
        let mut exchange = lock(&self.exchange);
        let requests = exchange.open_requests();
        let now = exchange.now;
        for (attempt, call, number) in requests {
            exchange.ring(attempt, call, &number, now);
            let provider_call_id = Some(id_at_provider(attempt));
            exchange.answer(attempt, Placed::Accepted { provider_call_id, carrier_call_id: None });
        }
    }

    /// Every conversation ends; what is said of it.
    fn hang_up(&mut self) -> Vec<Heard> {
        let mut exchange = lock(&self.exchange);
        let live = exchange.legs.iter_mut().filter(|(_, leg)| leg.end.is_none());
        live.map(|(attempt, leg)| {
            let end = Ended {
                provider_call_id: Some(id_at_provider(*attempt)),
                duration_secs: Some(30),
                ..Ended::of(Disposition::Completed, Weight::Status)
            };
            leg.end = Some(end.clone());
            Heard::about(*attempt, Word::Ended(end), "webhook")
        })
        .collect()
    }
}
