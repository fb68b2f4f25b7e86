-- Claim up to $1 due calls: each gets its attempt, committed before anybody is asked to dial. Also parks calls whose
-- number is busy, drops what expired or was suppressed, and puts lanes without work to sleep.
-- $1 want int               $2 global_limit int     $3 instance uuid    $4 provider text
-- $5 dial_guard_secs float8 $6 attempt_ids uuid[]   $7 lanes_max int    $8 lease_secs float8
-- Needs the admission lock, exclusive, taken by a statement before this one. One row always comes back: the summary;
-- the claimed calls stand beside it, null when there is none.
-- Used by queue::claim. Plan pinned by tests/it/plans.rs.
with now as materialized (
  select clock() as at
),
-- The slots: open attempts. Counted, not kept in a counter, so a crash can neither leak nor lose one.
open as materialized (
  select user_id, campaign_id from attempts where ended_at is null
),
user_live as materialized (
  select user_id, count(*)::int as n from open group by user_id
),
campaign_live as materialized (
  select campaign_id, count(*)::int as n from open where campaign_id is not null group by campaign_id
),
held as materialized (
  select max(h.hold_until) as until from provider_holds h
  where h.provider = $4 and h.hold_until > (select at from now)
),
room as materialized (
  select
    case when (select until from held) is not null then 0
         else greatest(0, least($1::int, $2::int - (select count(*) from open))) end::int as n
),
looks as materialized (
  select least($7::int, 8 + 4 * n) as lanes from room where n > 0
),
-- Two doors to a look: promises and high priority that are due, and the ring of users.
users_looked as materialized (
  select t.user_id
  from user_turns t
  where t.next_at <= (select at from now) and exists (select from looks)
  order by t.next_at
  limit (select lanes / 2 from looks)
),
lane_ids as materialized (
  (select l.id
   from lanes l
   where l.urgent_at < 'infinity' and l.urgent_at <= (select at from now) and exists (select from looks)
   order by l.urgent_at
   limit (select lanes / 4 from looks))
  union
  select l.id
  from users_looked u
  cross join lateral (
    select id from lanes
    where user_id = u.user_id and next_at <= (select at from now)
    order by next_at
    limit (select greatest(2, (select lanes from looks) / count(*)) from users_looked)
  ) l
),
looked as materialized (
  select
    l.id, l.user_id, l.campaign_id, l.next_at, l.urgent_at, l.opens_at, l.closes_at,
    coalesce(u.n, 0) as user_live,
    (select max_concurrent_calls from users where id = l.user_id) - coalesce(u.n, 0) as user_room,
    (select max_concurrent_calls from campaigns where id = l.campaign_id) - coalesce(c.n, 0) as campaign_room,
    l.paused,
    (select at from now) + make_interval(secs => $5) >= l.closes_at as closed,
    (select at from now) < l.opens_at as opens_later
  from lanes l
  left join user_live u on u.user_id = l.user_id
  left join campaign_live c on c.campaign_id = l.campaign_id
  where l.id = any (array(select id from lane_ids))
),
-- Why a lane goes to sleep until somebody wakes it. An opening to come needs nobody: time wakes it.
blocked as materialized (
  select
    id,
    case
      when paused then 'pause'
      when closed then 'window'
      when campaign_room <= 0 then 'campaign'
      when user_room <= 0 then 'user'
    end as blocked_on
  from looked
),
takes as materialized (
  select least(n, 2 * n / greatest(1, (select count(*) from looked))) + 4 as each from room
),
candidates as materialized (
  select l.id as lane_id, l.user_id, l.campaign_id, l.user_live, l.user_room, l.campaign_room, q.*
  from looked l
  join blocked b on b.id = l.id and b.blocked_on is null
  cross join generate_series(0, 4) as r(rank)
  cross join lateral (
    select c.id, c.rank, c.phone, c.due_at, c.expires_at
    from calls c
    where c.state = 'waiting' and c.lane_id = l.id and c.rank = r.rank::smallint and c.due_at <= (select at from now)
    order by c.due_at, c.id
    limit (select each from takes)
  ) q
  where not l.opens_later
),
judged as materialized (
  select
    c.*,
    coalesce(c.expires_at <= (select at from now), false) as expired,
    exists (select from suppressions s
            where s.phone = c.phone and s.user_id in (c.user_id, '00000000-0000-7000-8000-000000000001')) as suppressed,
    exists (select from attempts a where a.phone = c.phone and a.ended_at is null) as busy
  from candidates c
),
free as materialized (
  select *, row_number() over (partition by phone order by rank, due_at, id) as nth_of_phone
  from judged
  where not expired and not suppressed and not busy
),
-- Cut by campaign, then user, then all. Promises first; then whoever has the fewest live calls.
picked as materialized (
  select id, nth
  from (
    select *, row_number() over (order by rank > 0, user_live + nth_of_user, rank, due_at, id) as nth
    from (
      select *, row_number() over (partition by user_id order by rank, due_at, id) as nth_of_user
      from (
        select *, row_number() over (partition by campaign_id order by rank, due_at, id) as nth_of_campaign
        from free
        where nth_of_phone = 1
      ) in_campaign
      where campaign_id is null or nth_of_campaign <= campaign_room
    ) in_user
    where user_room is null or nth_of_user <= user_room
  ) in_all
  where nth <= (select n from room)
),
claimed as (
  update calls c
  set state = 'live', attempt_number = c.attempt_number + 1, updated_at = (select at from now)
  where c.id = any (array(
    select k.id from calls k
    where k.id = any (array(select id from picked)) and k.state = 'waiting'
    for update skip locked
  ))
  returning c.id, c.user_id, c.lane_id, c.campaign_id, c.attempt_number, c.phone, c.script_id, c.metadata, c.variables,
    c.time_zone, c.due_at, c.rank
),
attempted as (
  insert into attempts (id, call_id, user_id, lane_id, campaign_id, instance_id, number, claimed_at, check_at, phone, provider)
  select
    ($6::uuid[])[p.nth], c.id, c.user_id, c.lane_id, c.campaign_id, $3, c.attempt_number, n.at,
    n.at + make_interval(secs => $8), c.phone, $4
  from claimed c
  join picked p on p.id = c.id
  cross join now n
  returning id, call_id
),
parked as (
  update calls c
  set state = 'parked', updated_at = (select at from now)
  where c.state = 'waiting' and c.id = any (array(
    select id from judged where busy and not expired and not suppressed
    union all
    select f.id from free f where f.nth_of_phone > 1 and f.phone in (select phone from claimed)
  ))
  returning c.lane_id
),
dropped as (
  update calls c
  set
    state = case
      when c.id = any (array(select id from judged where suppressed)) then 'canceled'::call_state
      when c.dials = 0 then 'expired'
      else 'failed' end,
    disposition = case when c.id = any (array(select id from judged where suppressed)) then 'DO_NOT_CALL' else c.disposition end,
    ended_at = (select at from now), updated_at = (select at from now)
  where c.state = 'waiting' and c.id = any (array(select id from judged where expired or suppressed))
  returning c.lane_id, c.user_id, c.campaign_id, c.state, c.phone
),
consumed as materialized (
  select lane_id, count(*) as n
  from (select lane_id from claimed union all select lane_id from parked union all select lane_id from dropped) x
  group by lane_id
),
found as materialized (
  select lane_id, count(*) as n, max(of_rank) >= (select each from takes) as cut_short
  from (select lane_id, count(*) as of_rank from candidates group by lane_id, rank) x
  group by lane_id
),
-- Exhausted lanes sleep until their next due call; served ones go to the end of a ring that is longer than one look.
lanes_after as materialized (
  select
    l.id, l.user_id, b.blocked_on,
    case
      when b.blocked_on is not null then 'infinity'
      when l.opens_later then l.opens_at
      when e.exhausted then coalesce(d.next_at, 'infinity')
      when e.served and r.contended then n.at
      else l.next_at
    end as next_at,
    case
      when b.blocked_on is not null then 'infinity'
      when l.opens_later and l.urgent_at < 'infinity' then l.opens_at
      when e.exhausted then coalesce(d.urgent_at, 'infinity')
      else l.urgent_at
    end as urgent_at
  from looked l
  join blocked b on b.id = l.id
  cross join now n
  cross join (
    select (select count(*) from lane_ids) >= (select lanes / 2 from looks) as contended
  ) r
  left join found f on f.lane_id = l.id
  left join consumed s on s.lane_id = l.id
  cross join lateral (
    select coalesce(s.n, 0) > 0 as served, coalesce(f.n, 0) = coalesce(s.n, 0) and not coalesce(f.cut_short, false) as exhausted
  ) e
  left join lateral (
    select min(q.due_at) as next_at, min(q.due_at) filter (where q.rank < 2) as urgent_at
    from generate_series(0, 4) as g(rank)
    cross join lateral (
      select c.due_at, g.rank from calls c
      where c.state = 'waiting' and c.lane_id = l.id and c.rank = g.rank::smallint and c.due_at > n.at
      order by c.due_at
      limit 1
    ) q
    where e.exhausted and not l.opens_later and b.blocked_on is null
  ) d on true
),
lanes_moved as (
  update lanes l
  set next_at = a.next_at, urgent_at = a.urgent_at, blocked_on = a.blocked_on
  from lanes_after a
  where l.id = any (array(select id from lane_ids)) and l.id = a.id
    and (l.next_at, l.urgent_at, l.blocked_on) is distinct from (a.next_at, a.urgent_at, a.blocked_on)
  returning l.id
),
turns_after as materialized (
  select
    u.user_id,
    case when room.n <= 0 then 'user' end as blocked_on,
    case when room.n <= 0 then 'infinity' else least(
      (select min(a.next_at) from lanes_after a where a.user_id = u.user_id),
      (select o.next_at from lanes o
       where o.user_id = u.user_id and o.id <> all (array(select id from lane_ids))
       order by o.next_at
       limit 1),
      'infinity'
    ) end as next_at
  from users_looked u
  cross join lateral (
    select (select max_concurrent_calls from users where id = u.user_id)
         - coalesce((select n from user_live l where l.user_id = u.user_id), 0) as n
  ) room
),
turns_moved as (
  update user_turns t
  set
    blocked_on = a.blocked_on,
    next_at = case
      when a.next_at <= (select at from now)
        and (select count(*) from users_looked) >= (select lanes / 2 from looks)
        and a.user_id in (select user_id from claimed) then (select at from now)
      else a.next_at end
  from turns_after a
  where t.user_id = any (array(select user_id from users_looked)) and t.user_id = a.user_id
    and (t.next_at, t.blocked_on) is distinct from (a.next_at, a.blocked_on)
  returning t.user_id
),
tallied as (
  insert into tally_deltas (user_id, campaign_id, what, n)
  select user_id, campaign_id, what, sum(n)
  from (
    select user_id, campaign_id, 'PENDING' as what, -1 as n from claimed
    union all
    select user_id, campaign_id, 'IN_PROGRESS', 1 from claimed
    union all
    select user_id, campaign_id, 'PENDING', -1 from dropped
    union all
    select user_id, campaign_id, public_status(state), 1 from dropped
  ) moves
  group by user_id, campaign_id, what
)
select
  s.at as "at!", s.room as "room!", s.live as "live!", s.parked as "parked!", s.dropped as "dropped!",
  s.held_until, nullif(s.next_at, 'infinity') as next_at,
  c.attempt_id as "attempt_id?", c.id as "call_id?", c.user_id as "user_id?", c.lane_id as "lane_id?",
  c.campaign_id as "campaign_id?", c.attempt_number as "attempt_number?",
  c.phone as "phone?", c.script_id as "script_id?", c.metadata as "metadata?", c.variables as "variables?",
  c.time_zone as "time_zone?", c.due_at as "due_at?", c.rank as "rank?"
from (
  select
    (select at from now) as at,
    (select n from room) as room,
    (select count(*) from open) as live,
    (select count(*) from parked) as parked,
    array(select distinct phone from dropped) as dropped,
    (select until from held) as held_until,
    least(
      (select min(next_at) from turns_after),
      (select t.next_at from user_turns t
       where t.next_at <= 'infinity' and t.user_id <> all (array(select user_id from users_looked))
       order by t.next_at
       limit 1)
    ) as next_at
) s
left join (
  select k.*, a.id as attempt_id
  from claimed k
  join attempted a on a.call_id = k.id
) c on true
