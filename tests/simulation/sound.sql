-- What must not be after any step of the simulation: rows here are faults.
-- $1 global_limit int   $2 dial_guard_secs float8   $3 dials_per_day int: to a number of one user, in 24 h
with at as materialized (select clock() as at),
-- Claimed by this very step: no two steps have the same time.
new as materialized (
  select a.*, c.dials, c.dials_max, c.dials_granted, c.expires_at, c.cancel_requested_at, l.paused, l.opens_at, l.closes_at, l.destination
  from attempts a
  join calls c on c.id = a.call_id
  join lanes l on l.id = a.lane_id
  where a.claimed_at = (select at from at) and a.ended_at is null and a.number = c.attempt_number
)
select what || ' ' || id as "what!" from ops.broken
union all
select 'more live calls than the limit' where exists (select from new) and (select count(*) from attempts where ended_at is null) > $1
union all
select 'more live calls than user ' || u.id || ' may have'
from users u
where u.id in (select user_id from new) and (select count(*) from attempts where user_id = u.id and ended_at is null) > u.max_concurrent_calls
union all
select 'more live calls than campaign ' || g.id || ' may have'
from campaigns g
where g.id in (select campaign_id from new)
  and (select count(*) from attempts where campaign_id = g.id and ended_at is null) > g.max_concurrent_calls
union all
select 'claimed once too often ' || n.call_id
from new n
left join campaigns g on g.id = n.campaign_id
where n.dials >= coalesce(g.max_retries + 1 + n.dials_granted, n.dials_max)
union all
select 'claimed though it is on a list ' || n.call_id
from new n
where exists (
  select from suppressions s where s.phone = n.phone and s.user_id in (n.user_id, '00000000-0000-7000-8000-000000000001'))
union all
select 'claimed in a lane that is closed ' || n.call_id
from new n
where n.paused or n.claimed_at < n.opens_at or n.claimed_at + make_interval(secs => $2) >= n.closes_at
union all
select 'claimed too late, or though canceled ' || n.call_id from new n where n.expires_at <= n.claimed_at or n.cancel_requested_at is not null
union all
select 'dialed too often in a day ' || n.phone
from new n
where $3 > 0 and $3 < (
  select count(*) from attempts a
  where a.user_id = n.user_id and a.phone = n.phone and (a.dialed or a.ended_at is null)
    and a.claimed_at > n.claimed_at - interval '24 hours')
union all
select 'dials do not add up ' || c.id
from calls c
where c.dials <> (select count(*) from attempts a where a.call_id = c.id and a.dialed)
union all
select 'the ledger has forgotten ' || a.id
from attempts a
where (a.dialed or a.ended_at is null)
  and not exists (select from dials d where d.user_id = a.user_id and d.call_id = a.call_id and d.dialed_at = a.claimed_at)
union all
select 'open call of a person who was booked, or refused ' || c.id
from calls c
join prospects p on p.id = c.prospect_id
where c.state in ('waiting', 'parked') and p.status in ('BOOKED', 'NOT_INTERESTED', 'DO_NOT_CALL')
union all
select 'an appointment was lost ' || a.id
from attempts a
where a.disposition = 'APPOINTMENT_SET' and not exists (select from appointments x where x.attempt_id = a.id)
union all
select 'was not taken in, and set aside: ' || detail from dead_letters
