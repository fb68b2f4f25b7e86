-- Claim up to `want` due calls: each gets its attempt, committed before anybody is asked to dial.
-- `burst`: tokens the bucket holds; `rate`: dials a second, 0 = any. `dials_per_day`: to a number, 0 = any; `gap_secs`: between different
-- calls to a number, 0 = none. `now_is`: the time it is decided by.
-- Needs the admission lock, exclusive, taken by a statement before this one. One row always comes back: the summary;
-- the claimed calls stand beside it, null when there is none. What it finds in its way (numbers on a call, expired calls,
-- lanes with nothing due) it leaves to tidy_lanes, so that nobody waits for that.
-- Called by turn. Plan pinned by tests/it/plans.rs.
create or replace function claim_calls(
  want integer, global_limit integer, instance uuid, provider_name text, dial_guard_secs double precision, attempt_ids uuid[],
  lanes_max integer, lease_secs double precision, rate double precision, burst double precision, dials_per_day integer,
  gap_secs double precision, now_is timestamptz
) returns table (
  at timestamptz, room integer, live bigint, held_until timestamptz, probing boolean, next_at timestamptz, lanes uuid[], users uuid[],
  obstructed boolean, attempt_id uuid, call_id uuid, attempt_number integer, dials smallint, dials_max smallint, priority smallint,
  rank smallint, retry_delay_secs integer, phone text, script_id text, metadata jsonb, variables jsonb, due_at timestamptz,
  reserved_minutes integer, prospect_id uuid, agent jsonb, retry_rules jsonb
)
language plpgsql
as $$
#variable_conflict use_column
begin
  return query
with now as materialized (
  select $13 as at
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
-- What is known of the provider: held, how many calls it takes, and whether one dial at a time has to prove that it is back.
asked as materialized (
  select
    case when p.hold_until > (select at from now) then p.hold_until end as held_until,
    ceiling_of(p, $2::int) as ceiling,
    case when p.half_open then 1 - (
      select count(*) from attempts where ended_at is null and state = 'dialing' and claimed_at >= p.hold_until) end as probes
  from provider_states p
  where p.provider = $4
),
-- The token bucket of the provider's rate; infinity where there is no rate.
bucket as materialized (
  select case when $9::float8 <= 0 then 'infinity'::float8 else coalesce(
    (select least($10::float8, r.tokens + $9 * extract(epoch from (select at from now) - r.counted_at)::float8)
     from provider_rates r where r.provider = $4),
    $10) end as tokens
),
room as materialized (
  select
    case when (select held_until from asked) is not null or (select held_since from installation) is not null then 0
         -- least() passes over nulls: no ceiling, no probing.
         else greatest(0, least(
           $1::int, least($2::int, (select ceiling from asked)) - (select count(*) from open), (select floor(tokens) from bucket),
           (select probes from asked))) end::int as n
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
-- A few lanes of each user come by the first door, however many of one user's are due.
lane_ids as materialized (
  (select u.id
   from (
     select w.id, row_number() over (partition by w.user_id order by w.urgent_at, w.id) as nth_of_user, w.urgent_at
     from (
       select l.id, l.user_id, l.urgent_at
       from lanes l
       where l.urgent_at < 'infinity' and l.urgent_at <= (select at from now) and exists (select from looks)
       order by l.urgent_at
       limit (select 2 * lanes from looks)
     ) w
   ) u
   order by u.nth_of_user > 2, u.urgent_at
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
-- What metered users among them may still dial.
metered as materialized (
  select q.user_id, q.calls, q.minutes, q.reserve, q.day, q.is_subscribed, q.budget, q.spent_on
  from (select distinct user_id from lanes where id = any (array(select id from lane_ids))) u
  cross join lateral (select * from quotas where user_id = u.user_id offset 0) q
),
-- A metered user's dials are counted in its subscription: one that somebody holds is left for the next claim.
countable as materialized (
  select user_id from subscriptions where user_id = any (array(select user_id from metered)) for no key update skip locked
),
looked as materialized (
  select
    l.id, l.user_id, l.campaign_id,
    coalesce(u.n, 0) as user_live,
    -- least() passes over nulls: no limit, no quota.
    least((select max_concurrent_calls from users where id = l.user_id) - coalesce(u.n, 0),
      -- What plain SQL has changed of a user is taken in first.
      (select 0 from sql_changes where user_id = l.user_id limit 1),
      case when m.user_id is null or not m.is_subscribed or m.user_id = any (array(select user_id from countable)) then m.calls else 0 end) as user_room,
    (select max_concurrent_calls from campaigns where id = l.campaign_id) - coalesce(c.n, 0) as campaign_room,
    (select max_retries + 1 from campaigns where id = l.campaign_id) as campaign_dials
  from lanes l
  left join user_live u on u.user_id = l.user_id
  left join campaign_live c on c.campaign_id = l.campaign_id
  left join metered m on m.user_id = l.user_id
  where l.id = any (array(select id from lane_ids))
    and not l.paused
    and l.opens_at <= (select at from now) and (select at from now) + make_interval(secs => $5) < l.closes_at
),
takes as materialized (
  select least(n, 2 * n / greatest(1, (select count(*) from looked))) + 4 as each from room
),
candidates as materialized (
  select l.user_id, l.campaign_id, l.user_live, l.user_room, l.campaign_room, l.campaign_dials, q.*
  from looked l
  cross join generate_series(0, 4) as r(rank)
  cross join lateral (
    select c.id, c.rank, c.phone, c.due_at, c.expires_at, c.dials, c.dials_granted, c.cancel_requested_at
    from calls c
    where c.state = 'waiting' and c.lane_id = l.id and c.rank = r.rank::smallint and c.due_at <= (select at from now)
    order by c.due_at, c.id
    limit (select each from takes)
  ) q
  where (l.user_room is null or l.user_room > 0) and (l.campaign_room is null or l.campaign_room > 0)
),
-- One call for each number, and none that has expired or whose number is on a call or must not be called. They are left out
-- after the look, not during it: what is in the way is bounded too, and tidied afterwards.
free as materialized (
  select
    c.*,
    -- Of one user's calls to a number the rank decides; of several users' the promise, then who has waited longest.
    row_number() over (partition by c.phone, c.user_id order by c.rank, c.due_at, c.id) as nth_of_own
  from candidates c
  -- Scalar, so that each is a look-up for a candidate and never a join with the whole table.
  where (c.expires_at is null or c.expires_at > (select at from now)) and c.cancel_requested_at is null
    -- A retry that the campaign no longer grants.
    and (c.campaign_dials is null or c.dials < c.campaign_dials + c.dials_granted)
    and (select a.id from attempts a where a.phone = c.phone and a.ended_at is null) is null
    and (select min(s.phone) from suppressions s
         where s.phone = c.phone and s.user_id in (c.user_id, '00000000-0000-7000-8000-000000000001')) is null
    -- Dialed often enough (capped_until): one look into the ledger for both rules, and among those who test if it says so.
    and (($11::int <= 0 and $12::float8 <= 0)
      or (select ($11::int <= 0 or count(*) < $11::int)
            and ($12::float8 <= 0 or c.rank = 0 or count(*) filter (
              where d.call_id <> c.id and d.dialed_at > (select at from now) - make_interval(secs => $12::float8)) = 0)
          from (
            select d.call_id, d.dialed_at from dials d
            where d.phone = c.phone and d.user_id = c.user_id and d.dialed_at > (select at from now) - interval '24 hours'
            order by d.dialed_at desc
            limit greatest($11::int, 10)
          ) d)
      or (select t.phone from test_numbers t where t.phone = c.phone) is not null)
),
one_of_number as materialized (
  select
    o.*,
    -- What a minute costs, where its user has a cap of cost.
    case when o.user_id = any (array(select user_id from metered where budget is not null)) then price_of(o.phone) end as price
  from (
    select f.*, row_number() over (partition by f.phone order by f.rank > 0, f.due_at, f.id) as nth_of_number
    from free f
    where f.nth_of_own = 1
  ) o
  where nth_of_number = 1
),
-- An equal share of the calls there may be, for each user that has any live or could have.
share as materialized (
  select ceil(least($2::int, coalesce((select ceiling from asked), $2::int))::numeric
    / greatest(1, (select count(*) from (select user_id from user_live union select user_id from free) u)))::int as each
),
-- Cut by campaign, then user, then all. A promise goes first while its own user holds less than an equal share; then whoever has the
-- fewest live calls. Any other rank orders a user's own calls alone.
picked as materialized (
  select id, nth, user_id, nth_of_user, price
  from (
    select *, row_number() over (
      -- A probe is of whoever had none for longest: one user's calls that the provider bars must not be all probes.
      order by (select probed_at from user_turns t where t.user_id = in_user.user_id and (select probes from asked) is not null),
        not (rank = 0 and user_live + nth_of_user <= (select each from share)), user_live + nth_of_user, rank > 0, due_at, id) as nth
    from (
      select
        *, row_number() over (partition by user_id order by rank, due_at, id) as nth_of_user,
        sum(price) over (partition by user_id order by rank, due_at, id) as price_upto
      from (
        select *, row_number() over (partition by campaign_id order by rank, due_at, id) as nth_of_campaign
        from one_of_number
      ) in_campaign
      where campaign_id is null or nth_of_campaign <= campaign_room
    ) in_user
    where (user_room is null or nth_of_user <= user_room)
      -- As many as what is left of the day's cost covers; a number without a price is none of them.
      and (select m.budget is null or coalesce(price is not null and price_upto * m.reserve <= m.budget, false)
           from metered m where m.user_id = in_user.user_id) is not false
  ) in_all
  -- Some to spare: a call that somebody holds must not take the room of another.
  where nth <= (select n + 10 from room)
),
-- The minutes each of them reserves, by position; null: not metered.
picks as materialized (
  select
    coalesce(array_agg(p.id order by p.nth), '{}') as ids,
    array_agg(least(m.reserve, m.minutes - (p.nth_of_user - 1) * m.reserve)::int order by p.nth) as minutes,
    array_agg(m.day order by p.nth) as days, array_agg(m.spent_on order by p.nth) as spent_ons, array_agg(p.price order by p.nth) as prices
  from picked p
  left join metered m on m.user_id = p.user_id
),
claimed as (
  update calls c
  -- An edited script holds for what is dialed from now on.
  set state = 'live', attempt_number = c.attempt_number + 1, updated_at = (select at from now),
    script_id = coalesce(
      (select script_id from campaigns where id = c.campaign_id),
      (select case when p.reached_at is not null or p.status = 'RESCHEDULED' then coalesce(s.script_follow_up, s.script_initial)
                   else s.script_initial end
       from prospects p join user_settings s on s.user_id = p.user_id where p.id = c.prospect_id),
      c.script_id)
  where c.id = any (array(
    select k.id from calls k
    where k.id = any ((select ids from picks)::uuid[]) and k.state = 'waiting'
    order by array_position((select ids from picks), k.id)
    limit (select n from room)
    for update skip locked
  ))
  -- The attempt's id by position: a join of two lists of unknown length would be planned for one row and cost their product.
  returning
    ($6::uuid[])[array_position((select ids from picks), c.id)] as attempt_id,
    (select minutes from picks)[array_position((select ids from picks), c.id)] as reserved_minutes,
    (select days from picks)[array_position((select ids from picks), c.id)] as counted_on,
    (select spent_ons from picks)[array_position((select ids from picks), c.id)] as spent_on,
    (select prices from picks)[array_position((select ids from picks), c.id)] as minute_price,
    c.id, c.user_id, c.lane_id, c.campaign_id, c.attempt_number, c.dials, c.dials_max, c.dials_granted, c.priority, c.rank, c.phone, c.given,
    c.script_id, c.metadata, c.variables, c.due_at, c.prospect_id
),
attempted as (
  insert into attempts (
    id, call_id, user_id, lane_id, campaign_id, instance_id, number, claimed_at, check_at, phone, provider, reserved_minutes, counted_on,
    spent_on, minute_price
  )
  select
    c.attempt_id, c.id, c.user_id, c.lane_id, c.campaign_id, $3, c.attempt_number, n.at,
    n.at + make_interval(secs => $8), c.phone, $4, c.reserved_minutes, c.counted_on, c.spent_on, c.minute_price
  from claimed c
  cross join now n
),
-- The ledger of dials; what rang no phone leaves it again (a trigger).
dialed as (
  insert into dials (user_id, dialed_at, call_id, phone)
  select c.user_id, n.at, c.id, c.phone
  from claimed c
  cross join now n
),
spent as (
  insert into provider_rates as r (provider, tokens, counted_at)
  select $4, b.tokens - (select count(*) from claimed), n.at
  from bucket b, now n
  where $9 > 0 and exists (select from claimed)
  on conflict (provider) do update set tokens = excluded.tokens, counted_at = excluded.counted_at
),
counted as (
  update subscriptions s
  set day_dials = s.day_dials + d.n
  from (select user_id, count(*)::int as n from claimed where reserved_minutes is not null group by user_id) d
  where s.user_id = any (array(select user_id from claimed where reserved_minutes is not null)) and s.user_id = d.user_id
),
-- Where the ring is longer than one look, those who were served go to its end.
contended as materialized (
  select from looks where lanes / 2 <= (select count(*) from lane_ids)
),
lanes_rotated as (
  update lanes set next_at = (select at from now)
  where id = any (array(
    select id from lanes where id = any (array(select lane_id from claimed where exists (select from contended)))
    for no key update skip locked
  ))
),
probing as materialized (
  select from asked where probes is not null
),
turns_rotated as (
  update user_turns
  set
    next_at = case when exists (select from contended) then (select at from now) else next_at end,
    probed_at = case when exists (select from probing) then (select at from now) else probed_at end
  where user_id = any (array(
    select user_id from user_turns
    where user_id = any (array(
      select user_id from claimed where exists (select from contended) or exists (select from probing)))
    for no key update skip locked
  ))
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, sum(n)
  from claimed
  cross join (values ('PENDING', -1), ('IN_PROGRESS', 1)) as v(what, n)
  group by lane_id, user_id, campaign_id, what
)
select
  s.at as at, s.room as room, s.live as live, s.held_until, s.probing as probing, nullif(s.next_at, 'infinity') as next_at,
  s.lanes as lanes, s.users as users, s.obstructed as obstructed,
  c.attempt_id as attempt_id, c.id as call_id, c.attempt_number as attempt_number, c.dials as dials, c.dials_max as dials_max,
  c.priority as priority, c.rank as rank, c.retry_delay_secs as retry_delay_secs,
  c.phone as phone, c.script_id as script_id, c.metadata as metadata, c.variables as variables, c.due_at as due_at,
  c.reserved_minutes as reserved_minutes, c.prospect_id as prospect_id, c.agent as agent, c.retry_rules as retry_rules
from (
  select
    (select at from now) as at,
    (select n from room) as room,
    (select count(*) from open) as live,
    greatest(
      (select held_until from asked),
      -- When the next token is there, where the want of them was the limit.
      (select (select at from now) + make_interval(secs => greatest(0.001, (1 - (b.tokens - r.n)) / $9))
       from bucket b, room r where b.tokens - r.n < 1)
    ) as held_until,
    coalesce((select probes is not null from asked), false) as probing,
    (select t.next_at from user_turns t where t.next_at <= 'infinity' order by t.next_at limit 1) as next_at,
    array(select id from lane_ids) as lanes,
    array(select user_id from users_looked) as users,
    (select count(*) from looked) < (select count(*) from lane_ids)
      or (select count(*) from one_of_number) < (select count(*) from candidates) as obstructed
) s
left join (
  select
    k.attempt_id, k.id, k.attempt_number, k.dials, k.priority, k.rank, coalesce(k.given, k.phone) as phone, k.script_id, k.metadata, k.variables, k.due_at,
    k.reserved_minutes, k.prospect_id, s.agent, s.retry_rules, g.retry_delay_secs,
    coalesce((g.max_retries + 1 + k.dials_granted)::smallint, k.dials_max) as dials_max
  from claimed k
  left join lateral (select retry_delay_secs, max_retries from campaigns where id = k.campaign_id offset 0) g on true
  left join lateral (
    select
      jsonb_strip_nulls(jsonb_build_object('language', language, 'voice', voice, 'firstMessage', first_message)) as agent,
      case when k.campaign_id is null then retry_rules end as retry_rules
    from user_settings where user_id = k.user_id offset 0
  ) s on true
) c on true;
end
$$;
