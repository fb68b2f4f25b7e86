-- All that a decision about attempts $1 rests on. Look-ups one by one: the plan cannot be anything else.
-- $1 attempt_ids uuid[]
-- Used by queue::facts.
select
  a.id, a.call_id, a.revision, a.state as "state: AttemptState", a.number, a.dialed, a.weight, a.misses, a.told as "told: RawJson",
  a.provider_call_id, a.carrier_call_id is not null as "has_carrier_call!", a.summary is not null as "has_summary!", a.billed, a.started_at is not null as "started!", a.duration_secs is not null as "has_duration!",
  a.hangup_cause is not null as "has_cause!", a.transcript is not null as "has_transcript!",
  extract(epoch from clock() - coalesce(a.sent_at, a.claimed_at))::float8 as "unheard_secs!",
  c.state as "call_state: CallState", c.attempt_number = a.number as "newest!", c.dials,
  coalesce((select (max_retries + 1 + c.dials_granted)::smallint from campaigns where id = c.campaign_id), c.dials_max) as "dials_max!",
  c.priority, c.rank,
  c.cancel_requested_at is not null as "cancel_requested!",
  (select retry_delay_secs from campaigns where id = c.campaign_id) as retry_delay_secs,
  (select retry_rules from user_settings where user_id = c.user_id and c.campaign_id is null) as "retry_rules: RawJson"
from unnest($1::uuid[]) as w(id)
cross join lateral (select * from attempts where id = w.id offset 0) a
cross join lateral (select * from calls where id = a.call_id offset 0) c
