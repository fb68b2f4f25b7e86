-- Cancel call $1: at once while it waits; a live one is marked and its hang-up asked for. Ended calls are left alone.
-- $1 call_id uuid   $2 user_id uuid?, null = any
-- Needs the admission lock, shared. Used by queue::cancel.
with target as materialized (
  select id, state from calls
  where id = $1 and ($2::uuid is null or user_id = $2)
  for update
),
canceled as (
  update calls c
  set
    state = case when t.state = 'live' then c.state else 'canceled' end,
    disposition = case when t.state = 'live' then c.disposition else 'CANCELED' end,
    ended_at = case when t.state = 'live' then null else clock() end,
    cancel_requested_at = coalesce(c.cancel_requested_at, clock()),
    updated_at = clock()
  from target t
  where c.id = $1 and c.id = t.id and t.state in ('waiting', 'parked', 'live')
  returning c.id, c.lane_id, c.user_id, c.campaign_id, c.attempt_number, c.phone, c.state
),
hung_up as (
  update attempts a
  set hang_up_at = clock(), revision = a.revision + 1
  from canceled c
  where a.call_id = $1 and a.call_id = c.id and a.number = c.attempt_number and a.ended_at is null
  returning a.id
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, n
  from canceled
  cross join (values ('PENDING', -1), ('CANCELED', 1)) as v(what, n)
  where state = 'canceled'
)
select t.id, t.state as "was: CallState", c.state as "state?: CallState", c.phone as "phone?"
from target t
left join canceled c on true
