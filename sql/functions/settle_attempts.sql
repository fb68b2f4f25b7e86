-- Write what was decided about attempts and their calls, one row each, fenced by revision, newest attempt and state; and the events to be
-- kept with them, whose second delivery adds nothing. In the arrays null keeps what is: states, provider_call_ids, weights, dispositions,
-- hangup_causes, durations, told, transcripts, sent_secs_ago, check_in_secs, calls_become, due_in_secs, due_ats, ranks, dials_maxes,
-- carrier_call_ids, summaries and record_in_secs (infinity: never). `now_is`: the time it is written by.
-- A row for each attempt that was settled, and, without an attempt, one for each lane with calls that wait again.
-- No row for an item is a normal answer: somebody else settled it first; decide again on fresh facts.
-- Needs the admission lock, exclusive. Called by turn. Plan pinned by tests/it/plans.rs.
create or replace function settle_attempts(
  attempt_ids uuid[], revisions integer[], states text[], provider_call_ids text[], dialed boolean[], weights smallint[], dispositions text[],
  hangup_causes text[], durations integer[], told jsonb[], transcripts text[], misses smallint[], started boolean[],
  sent_secs_ago double precision[], check_in_secs double precision[], calls_were text[], calls_become text[],
  due_in_secs double precision[], due_ats timestamptz[], ranks smallint[], dials_maxes smallint[], event_attempt_ids uuid[],
  event_keys text[], event_types text[], event_sources text[], event_bodies jsonb[], carrier_call_ids text[], summaries text[],
  billed boolean[], record_in_secs double precision[],
  now_is timestamptz
) returns table (
  attempt_id uuid, call_id uuid, phone text, user_id uuid, lane_id uuid, campaign_id uuid, disposition text, ends boolean,
  since_claim_secs double precision, waits_at timestamptz, is_urgent boolean, parked_behind boolean, blocked_behind boolean
)
language plpgsql
as $$
#variable_conflict use_column
begin
  return query
with item as materialized (
  select *
  from unnest(
    $1::uuid[], $2::int[], $3::text[], $4::text[], $5::bool[], $6::smallint[], $7::text[], $8::text[], $9::int[], $10::jsonb[],
    $11::text[], $12::smallint[], $13::bool[], $14::float8[], $15::float8[], $16::text[], $17::text[], $18::float8[],
    $19::timestamptz[], $20::smallint[], $21::smallint[], $27::text[], $28::text[], $29::bool[], $30::float8[]
  ) as i(
    attempt_id, revision, state, provider_call_id, dialed, weight, disposition, hangup_cause, duration_secs, told,
    transcript, misses, started, sent_secs_ago, check_in_secs, call_was, call_becomes, due_in_secs, due_at, rank, dials_max,
    carrier_call_id, summary, billed, record_in_secs
  )
),
heard as (
  insert into events (attempt_id, key, type, source, received_at, body)
  select e.attempt_id, e.key, e.type, e.source, now_is, e.body
  from unnest($22::uuid[], $23::text[], $24::text[], $25::text[], $26::jsonb[]) as e(attempt_id, key, type, source, body)
  on conflict do nothing
),
settled as (
  update attempts a
  set
    revision = a.revision + 1,
    state = coalesce(i.state::attempt_state, a.state),
    ended_at = case when i.state = 'ended' then coalesce(a.ended_at, now_is) else a.ended_at end,
    accepted_at = case when i.dialed and i.state in ('accepted', 'ended') then coalesce(a.accepted_at, now_is) else a.accepted_at end,
    started_at = case when i.started then coalesce(a.started_at, now_is) else a.started_at end,
    provider_call_id = coalesce(i.provider_call_id, a.provider_call_id),
    carrier_call_id = coalesce(i.carrier_call_id, a.carrier_call_id),
    dialed = a.dialed or i.dialed,
    weight = coalesce(i.weight, a.weight),
    disposition = coalesce(i.disposition, a.disposition),
    hangup_cause = coalesce(i.hangup_cause, a.hangup_cause),
    duration_secs = coalesce(i.duration_secs, a.duration_secs),
    told = coalesce(i.told, a.told),
    billed = a.billed or i.billed,
    transcript = coalesce(i.transcript, a.transcript),
    summary = coalesce(i.summary, a.summary),
    record_at = case
      when i.record_in_secs is null then a.record_at
      when i.record_in_secs < 'infinity' then now_is + make_interval(secs => i.record_in_secs)
    end,
    misses = i.misses,
    sent_at = coalesce(now_is - make_interval(secs => i.sent_secs_ago), a.sent_at),
    check_at = coalesce(now_is + make_interval(secs => i.check_in_secs), a.check_at)
  from item i
  where a.id = any ($1) and a.id = i.attempt_id and a.revision = i.revision
  returning
    a.id, a.call_id, a.number, a.phone, a.user_id, a.lane_id, a.campaign_id, a.claimed_at,
    i.dialed as dials_more, i.disposition, i.call_was, i.call_becomes, i.due_in_secs, i.due_at, i.rank, i.dials_max,
    i.state = 'ended' as ends
),
moved as (
  update calls c
  set
    state = coalesce(s.call_becomes::call_state, c.state),
    dials = c.dials + s.dials_more::int,
    dials_max = coalesce(s.dials_max, c.dials_max),
    -- A promise on a campaign's last dial is kept all the same.
    dials_granted = case when s.dials_max is null or c.campaign_id is null then c.dials_granted else
      greatest(c.dials_granted, s.dials_max - 1 - (select max_retries from campaigns where id = c.campaign_id))::smallint end,
    rank = coalesce(s.rank, c.rank),
    due_at = coalesce(s.due_at, now_is + make_interval(secs => s.due_in_secs), c.due_at),
    disposition = coalesce(s.disposition, c.disposition),
    ended_at = case
      when s.call_becomes in ('completed', 'failed', 'expired', 'canceled') then coalesce(c.ended_at, now_is)
      when s.call_becomes is not null then null
      else c.ended_at end,
    updated_at = now_is
  from settled s
  where c.id = s.call_id and c.attempt_number = s.number and c.state = s.call_was::call_state
    and (s.call_becomes is not null or s.dials_more or s.disposition is not null)
  returning c.id, c.lane_id, c.user_id, c.campaign_id, s.call_was, c.state, c.dials, s.dials_more, c.rank,
    case when c.state = 'waiting' and s.call_becomes is not null then c.due_at end as waits_at
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, sum(n)
  from (
    select lane_id, user_id, campaign_id, public_status(call_was::call_state) as what, -1 as n from moved where state <> call_was::call_state
    union all
    select lane_id, user_id, campaign_id, public_status(state), 1 from moved where state <> call_was::call_state
    union all
    select lane_id, user_id, campaign_id, 'DIALS', 1 from moved where dials_more
    union all
    select lane_id, user_id, campaign_id, 'RETRIES', 1 from moved where dials_more and dials > 1
  ) m
  group by lane_id, user_id, campaign_id, what
  having sum(n) <> 0
)
select
  s.id, s.call_id, s.phone, s.user_id, s.lane_id, s.campaign_id, s.disposition, coalesce(s.ends, false),
  extract(epoch from now_is - s.claimed_at)::float8,
  null::timestamptz, null::boolean,
  coalesce(s.ends and exists (select from calls p where p.state = 'parked' and p.phone = s.phone), false),
  coalesce(s.ends and (
    exists (select from user_turns t where t.user_id = s.user_id and t.blocked_on = 'user')
    or exists (select from lanes l
               where l.user_id = s.user_id
                 and (l.blocked_on = 'user' or (l.blocked_on = 'campaign' and l.campaign_id = s.campaign_id)))
  ), false)
from settled s
union all
select null, null, null, null, m.lane_id, null, null, null, null, min(m.waits_at), m.rank < 2, null, null
from moved m
where m.waits_at is not null
group by m.lane_id, m.rank < 2;
end
$$;
