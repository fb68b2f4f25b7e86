-- Tidy lanes a claim has looked at: park calls whose number is busy, drop what expired or was suppressed, and put lanes with
-- nothing due to sleep until their next call, their opening, or until somebody wakes them.
-- A number that was dialed often enough waits until it may be dialed again.
-- `each`: calls of a rank to look at. `dials_per_day`: 0 = any; `gap_secs`: 0 = none. `now_is`: the time it is decided by.
-- Needs the admission lock, exclusive. Called by tend. Plan pinned by tests/it/plans.rs.
create or replace function tidy_lanes(
  lane_ids uuid[], user_ids uuid[], dial_guard_secs double precision, each bigint, dials_per_day integer, gap_secs double precision,
  now_is timestamptz
) returns table (at timestamptz, put_off bigint, dropped text[], next_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
declare
  -- Metered users who may dial nothing now.
  spent uuid[] := array(
    select user_id from quotas_of(user_ids || array(select user_id from lanes where id = any (lane_ids))) where calls <= 0);
begin
  return query
with open as materialized (
  select user_id, campaign_id from attempts where ended_at is null
),
looked as materialized (
  select
    l.id, l.user_id, l.next_at, l.urgent_at, l.opens_at, now_is < l.opens_at as opens_later,
    -- Why it goes to sleep until somebody wakes it. An opening to come needs nobody: time wakes it.
    case
      when l.paused then 'pause'
      when now_is + make_interval(secs => $3) >= l.closes_at then 'window'
      when (select max_concurrent_calls from campaigns where id = l.campaign_id)
        <= (select count(*) from open where campaign_id = l.campaign_id) then 'campaign'
      when (select max_concurrent_calls from users where id = l.user_id)
        <= (select count(*) from open where user_id = l.user_id) then 'user'
      when l.user_id = any (spent) then 'quota'
    end as blocked_on
  from lanes l
  where l.id = any ($1)
),
candidates as materialized (
  select l.id as lane_id, l.user_id, q.*
  from looked l
  cross join generate_series(0, 4) as r(rank)
  cross join lateral (
    select c.id, c.rank, c.phone, c.expires_at, c.campaign_id, c.dials, c.dials_granted, c.cancel_requested_at
    from calls c
    where c.state = 'waiting' and c.lane_id = l.id and c.rank = r.rank::smallint and c.due_at <= now_is
    order by c.due_at, c.id
    limit $4
  ) q
  where l.blocked_on is null and not l.opens_later
),
judged as materialized (
  select
    c.id, c.lane_id,
    -- Its time is over, or the campaign no longer grants the dial.
    coalesce(c.expires_at <= now_is, false)
      or coalesce(c.dials >= (select max_retries + 1 from campaigns where id = c.campaign_id) + c.dials_granted, false) as expired,
    exists (select from suppressions s
            where s.phone = c.phone and s.user_id in (c.user_id, '00000000-0000-7000-8000-000000000001')) as suppressed,
    c.cancel_requested_at is not null as canceled,
    exists (select from attempts a where a.phone = c.phone and a.ended_at is null) as busy,
    case when $5::int > 0 or $6::float8 > 0
         then capped_until(c.user_id, c.phone, c.id, c.rank, now_is, $5::int, $6::float8) end as capped_until
  from candidates c
),
dropped as (
  update calls c
  set
    state = case
      when c.id = any (array(select id from judged where suppressed or canceled)) then 'canceled'::call_state
      when c.dials = 0 then 'expired'
      else 'failed' end,
    disposition = case
      when c.id = any (array(select id from judged where suppressed)) then 'DO_NOT_CALL'
      when c.id = any (array(select id from judged where canceled)) then 'CANCELED'
      else c.disposition end,
    ended_at = now_is, updated_at = now_is
  where c.state = 'waiting' and c.id = any (array(select id from judged where expired or suppressed or canceled))
  returning c.lane_id, c.user_id, c.campaign_id, c.state, c.phone
),
parked as (
  update calls c
  set state = 'parked', updated_at = now_is
  where c.state = 'waiting' and c.id = any (array(select id from judged where busy and not expired and not suppressed and not canceled))
  returning c.lane_id
),
capped as (
  update calls c
  set due_at = j.capped_until, capped_until = j.capped_until, updated_at = now_is
  from judged j
  where c.id = any (array(
      select id from judged where capped_until > now_is and not busy and not expired and not suppressed and not canceled))
    and c.id = j.id and c.state = 'waiting'
  returning c.lane_id, c.due_at, c.rank
),
-- Lanes whose due calls are all gone now sleep until their next one.
left_over as materialized (
  select lane_id from judged
  where not busy and not expired and not suppressed and not canceled and (capped_until is null or capped_until <= now_is)
  union
  select lane_id from candidates group by lane_id, rank having count(*) >= $4
),
lanes_after as materialized (
  select
    l.id, l.user_id, l.blocked_on,
    case
      when l.blocked_on is not null then 'infinity'
      when l.opens_later then l.opens_at
      when o.lane_id is null then least(d.next_at, (select min(k.due_at) from capped k where k.lane_id = l.id), 'infinity')
      else l.next_at
    end as next_at,
    case
      when l.blocked_on is not null then 'infinity'
      when l.opens_later and l.urgent_at < 'infinity' then l.opens_at
      when o.lane_id is null then least(d.urgent_at, (select min(k.due_at) from capped k where k.lane_id = l.id and k.rank < 2), 'infinity')
      else urgent_of(l.id)
    end as urgent_at
  from looked l
  left join left_over o on o.lane_id = l.id
  left join lateral (
    select min(q.due_at) as next_at, min(q.due_at) filter (where q.rank < 2) as urgent_at
    from generate_series(0, 4) as g(rank)
    cross join lateral (
      select c.due_at, g.rank from calls c
      where c.state = 'waiting' and c.lane_id = l.id and c.rank = g.rank::smallint and c.due_at > now_is
      order by c.due_at
      limit 1
    ) q
    where o.lane_id is null and not l.opens_later and l.blocked_on is null
  ) d on true
),
lanes_moved as (
  update lanes l
  set next_at = a.next_at, urgent_at = a.urgent_at, blocked_on = a.blocked_on
  from lanes_after a
  where l.id = any ($1) and l.id = a.id
    and (l.next_at, l.urgent_at, l.blocked_on) is distinct from (a.next_at, a.urgent_at, a.blocked_on)
),
turns_after as materialized (
  select
    u.user_id,
    f.blocked_on,
    case when f.blocked_on is not null then 'infinity' else least(
      (select min(a.next_at) from lanes_after a where a.user_id = u.user_id),
      (select o.next_at from lanes o where o.user_id = u.user_id and o.id <> all ($1) order by o.next_at limit 1),
      'infinity'
    ) end as next_at
  from unnest($2::uuid[]) as u(user_id)
  cross join lateral (
    select case
      when (select max_concurrent_calls from users where id = u.user_id) <= (select count(*) from open where user_id = u.user_id) then 'user'
      when u.user_id = any (spent) then 'quota'
    end as blocked_on
  ) f
),
turns_moved as (
  update user_turns t
  set next_at = a.next_at, blocked_on = a.blocked_on
  from turns_after a
  where t.user_id = any ($2) and t.user_id = a.user_id
    and (t.next_at, t.blocked_on) is distinct from (a.next_at, a.blocked_on)
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, sum(n)
  from (
    select lane_id, user_id, campaign_id, 'PENDING' as what, -1 as n from dropped
    union all
    select lane_id, user_id, campaign_id, public_status(state), 1 from dropped
  ) moves
  group by lane_id, user_id, campaign_id, what
)
select
  now_is as at,
  (select count(*) from parked) + (select count(*) from capped) as put_off,
  array(select distinct phone from dropped) as dropped,
  nullif(least(
    (select min(next_at) from turns_after),
    (select t.next_at from user_turns t where t.next_at <= 'infinity' and t.user_id <> all ($2) order by t.next_at limit 1)
  ), 'infinity') as next_at;
end
$$;
