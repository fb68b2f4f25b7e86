-- Write down an attempt that a provider has and this database does not know: its call is live, and is not dialed again meanwhile.
-- $1 attempt_id uuid   $2 call_id uuid   $3 provider_call_id text   $4 provider text   $5 instance uuid
-- Needs the admission lock, exclusive. Used by queue::adopt. No row: the call is not known, does not wait, or its number is on a call.
with waiting as materialized (
  select c.* from calls c
  where c.id = $2 and c.state in ('waiting', 'parked') and not exists (select from attempts a where a.phone = c.phone and a.ended_at is null)
  for update
),
attempt as (
  insert into attempts (
    id, call_id, user_id, lane_id, campaign_id, instance_id, number, state, dialed, claimed_at, accepted_at, check_at, phone, provider,
    provider_call_id
  )
  select $1, id, user_id, lane_id, campaign_id, $5, attempt_number + 1, 'accepted', true, clock(), clock(), clock(), phone, $4, $3
  from waiting
  returning call_id
),
live as (
  update calls c
  set state = 'live', attempt_number = c.attempt_number + 1, dials = c.dials + 1, updated_at = clock()
  where c.id = any (array(select call_id from attempt))
  returning c.id, c.lane_id, c.user_id, c.campaign_id, c.dials
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select l.lane_id, l.user_id, l.campaign_id, v.what, v.n
  from live l
  cross join lateral (values ('PENDING', -1), ('IN_PROGRESS', 1), ('DIALS', 1), ('RETRIES', case when l.dials > 1 then 1 else 0 end)) as v(what, n)
  where v.n <> 0
)
select id as "id!" from live
