-- Claim up to `want` due calls: each gets its attempt, committed before anybody is asked to dial.
-- `burst`: tokens the bucket holds; `rate`: dials a second, 0 = any. `dials_per_day`: to a number, 0 = any; `gap_secs`: between different
-- calls to a number, 0 = none. `now_is`: the time it is decided by.
-- Needs the admission lock, exclusive, taken by a statement before this one. The first row is the summary: it has a room and no call.
-- Large statements cost more to begin than to run: what only some claims need is apart, and small steps that may end it come first.
-- What it finds in its way (numbers on a call, expired calls, lanes with nothing due) it leaves to tidy_lanes, so that nobody waits for that.
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
declare
  -- The slots: open attempts. Counted, not kept in a counter, so a crash can neither leak nor lose one.
  live_now  constant bigint := (select count(*) from attempts where ended_at is null);
  -- What is known of the provider: held, how many calls it takes, and whether one dial at a time has to prove that it is back.
  held      timestamptz;
  most      integer := $2;
  probes    bigint;
  -- The token bucket of the provider's rate; infinity where there is no rate.
  tokens    double precision := 'infinity';
  n         integer;
  looks     integer;
  next_look timestamptz;
  urgent_at timestamptz;
  looked_at uuid[] := '{}';
  asked     uuid[] := '{}';
  contended boolean;
  -- What metered users among them may still dial, and those of them whose subscription nobody holds.
  metered   quotas[];
  countable uuid[];
  -- What is dialed, in the order of attempt_ids, and the minutes each reserves; null: not metered.
  picked    uuid[];
  minutes   integer[];
  days      date[];
  spent_ons date[];
  prices    numeric[];
begin
  select
    case when p.hold_until > now_is then p.hold_until end, least(ceiling_of(p, $2), $2),
    case when p.half_open then 1 - (
      select count(*) from attempts where ended_at is null and state = 'dialing' and claimed_at >= p.hold_until) end
  into held, most, probes
  from provider_states p
  where p.provider = $4;
  most := coalesce(most, $2);
  if rate > 0 then
    tokens := coalesce(
      (select least(burst, r.tokens + rate * extract(epoch from now_is - r.counted_at)::double precision)
       from provider_rates r where r.provider = $4),
      burst);
  end if;
  n := case
    when held is not null or (select held_since from installation) is not null then 0
    -- least() passes over nulls: no probing.
    else greatest(0, least(want, most - live_now, floor(tokens), probes)) end;
  select t.next_at into next_look from user_turns t where t.next_at <= 'infinity' order by t.next_at limit 1;
  -- Two doors to a look: promises and high priority that are due, and the ring of users.
  looks := least(lanes_max, 8 + 4 * n);
  if n > 0 and next_look <= now_is then
    asked := array(select t.user_id from user_turns t where t.next_at <= now_is order by t.next_at limit looks / 2);
    looked_at := array(
      select l.id
      from unnest(asked) as u(user_id)
      cross join lateral (
        select id from lanes
        where user_id = u.user_id and next_at <= now_is
        order by next_at
        limit greatest(2, looks / cardinality(asked))
      ) l);
  end if;
  if n > 0 then
    -- A few lanes of each user come by the first door, however many of one user's are due.
    select l.urgent_at into urgent_at from lanes l where l.urgent_at < 'infinity' order by l.urgent_at limit 1;
    if urgent_at <= now_is then
      looked_at := array(
        select unnest(looked_at)
        union
        (select u.id
         from (
           select w.id, row_number() over (partition by w.user_id order by w.urgent_at, w.id) as nth_of_user, w.urgent_at
           from (
             select l.id, l.user_id, l.urgent_at
             from lanes l
             where l.urgent_at < 'infinity' and l.urgent_at <= now_is
             order by l.urgent_at
             limit 2 * looks
           ) w
         ) u
         order by u.nth_of_user > 2, u.urgent_at
         limit looks / 4));
    end if;
  end if;
  -- When the next token is there, where the want of them was the limit.
  held := greatest(held, case when tokens - n < 1 then now_is + make_interval(secs => greatest(0.001, (1 - (tokens - n)) / rate)) end);
  at := now_is;
  room := n;
  live := live_now;
  held_until := held;
  probing := probes is not null;
  next_at := next_look;
  lanes := looked_at;
  users := asked;
  obstructed := false;
  if looked_at = '{}' then
    return next;
    return;
  end if;
  contended := looks / 2 <= cardinality(looked_at);
  metered := array(select q from quotas_of(array(select user_id from lanes where id = any (looked_at))) q);
  if metered <> '{}' then
    -- A metered user's dials are counted in its subscription: one that somebody holds is left for the next claim.
    countable := array(
      select user_id from subscriptions where user_id = any (array(select user_id from unnest(metered))) for no key update skip locked);
  end if;

with open as materialized (
  select user_id, campaign_id from attempts where ended_at is null
),
user_live as materialized (
  select user_id, count(*)::int as n from open group by user_id
),
campaign_live as materialized (
  select campaign_id, count(*)::int as n from open where campaign_id is not null group by campaign_id
),
looked as materialized (
  select
    l.id, l.user_id, l.campaign_id,
    coalesce(u.n, 0) as user_live,
    -- least() passes over nulls: no limit, no quota.
    least((select max_concurrent_calls from users where id = l.user_id) - coalesce(u.n, 0),
      -- What plain SQL has changed of a user is taken in first.
      (select 0 from sql_changes where user_id = l.user_id limit 1),
      case when m.user_id is null or not m.is_subscribed or m.user_id = any (countable) then m.calls else 0 end) as user_room,
    g.max_concurrent_calls - coalesce(c.n, 0) as campaign_room,
    g.max_retries + 1 as campaign_dials
  from lanes l
  left join user_live u on u.user_id = l.user_id
  left join campaign_live c on c.campaign_id = l.campaign_id
  left join unnest(metered) m on m.user_id = l.user_id
  left join lateral (select max_concurrent_calls, max_retries from campaigns where id = l.campaign_id offset 0) g on true
  where l.id = any (looked_at)
    and not l.paused
    and l.opens_at <= now_is and now_is + make_interval(secs => dial_guard_secs) < l.closes_at
),
takes as materialized (
  select least(n, 2 * n / greatest(1, (select count(*) from looked))) + 4 as each
),
candidates as materialized (
  select l.user_id, l.campaign_id, l.user_live, l.user_room, l.campaign_room, l.campaign_dials, q.*
  from looked l
  cross join generate_series(0, 4) as r(rank)
  cross join lateral (
    select c.id, c.rank, c.phone, c.due_at, c.expires_at, c.dials, c.dials_granted, c.cancel_requested_at
    from calls c
    where c.state = 'waiting' and c.lane_id = l.id and c.rank = r.rank::smallint and c.due_at <= now_is
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
  where (c.expires_at is null or c.expires_at > now_is) and c.cancel_requested_at is null
    -- A retry that the campaign no longer grants.
    and (c.campaign_dials is null or c.dials < c.campaign_dials + c.dials_granted)
    and (select a.id from attempts a where a.phone = c.phone and a.ended_at is null) is null
    and (select min(s.phone) from suppressions s
         where s.phone = c.phone and s.user_id in (c.user_id, '00000000-0000-7000-8000-000000000001')) is null
    -- Dialed often enough (capped_until): one look into the ledger for both rules, and among those who test if it says so.
    and ((dials_per_day <= 0 and gap_secs <= 0)
      or (select (dials_per_day <= 0 or count(*) < dials_per_day)
            and (gap_secs <= 0 or c.rank = 0 or count(*) filter (
              where d.call_id <> c.id and d.dialed_at > now_is - make_interval(secs => gap_secs)) = 0)
          from (
            select d.call_id, d.dialed_at from dials d
            where d.phone = c.phone and d.user_id = c.user_id and d.dialed_at > now_is - interval '24 hours'
            order by d.dialed_at desc
            limit greatest(dials_per_day, 10)
          ) d)
      or (select t.phone from test_numbers t where t.phone = c.phone) is not null)
),
one_of_number as materialized (
  select
    o.*,
    -- What a minute costs, where its user has a cap of cost.
    case when o.user_id = any (array(select user_id from unnest(metered) where budget is not null)) then price_of(o.phone) end as price
  from (
    select f.*, row_number() over (partition by f.phone order by f.rank > 0, f.due_at, f.id) as nth_of_number
    from free f
    where f.nth_of_own = 1
  ) o
  where nth_of_number = 1
),
-- An equal share of the calls there may be, for each user that has any live or could have.
share as materialized (
  select ceil(most::numeric
    / greatest(1, (select count(*) from (select user_id from user_live union select user_id from free) u)))::int as each
),
-- Cut by campaign, then user, then all. A promise goes first while its own user holds less than an equal share; then whoever has the
-- fewest live calls. Any other rank orders a user's own calls alone.
picks as materialized (
  select id, nth, user_id, nth_of_user, price
  from (
    select *, row_number() over (
      -- A probe is of whoever had none for longest: one user's calls that the provider bars must not be all probes.
      order by (select probed_at from user_turns t where t.user_id = in_user.user_id and probes is not null),
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
           from unnest(metered) m where m.user_id = in_user.user_id) is not false
  ) in_all
  -- Some to spare: a call that somebody holds must not take the room of another.
  where nth <= n + 10
)
  select
    coalesce(array_agg(p.id order by p.nth), '{}'),
    array_agg(least(m.reserve, m.minutes - (p.nth_of_user - 1) * m.reserve)::int order by p.nth),
    array_agg(m.day order by p.nth), array_agg(m.spent_on order by p.nth), array_agg(p.price order by p.nth),
    (select count(*) from looked) < cardinality(looked_at) or (select count(*) from one_of_number) < (select count(*) from candidates)
  into picked, minutes, days, spent_ons, prices, obstructed
  from picks p
  left join unnest(metered) m on m.user_id = p.user_id;

  return next;
  if picked = '{}' then
    return;
  end if;

  return query
with claimed as (
  update calls c
  -- An edited script holds for what is dialed from now on.
  set state = 'live', attempt_number = c.attempt_number + 1, updated_at = now_is,
    script_id = coalesce(
      (select script_id from campaigns where id = c.campaign_id),
      (select case when p.reached_at is not null or p.status = 'RESCHEDULED' then coalesce(s.script_follow_up, s.script_initial)
                   else s.script_initial end
       from prospects p join user_settings s on s.user_id = p.user_id where p.id = c.prospect_id),
      c.script_id)
  where c.id = any (array(
    select k.id from calls k
    -- As text, so that no partial index seems as good as the key while there is next to nothing.
    where k.id = any (picked) and k.state::text = 'waiting'
    order by array_position(picked, k.id)
    limit n
    for update skip locked
  ))
  -- By position: a join of two lists of unknown length would be planned for one row and cost their product.
  returning
    array_position(picked, c.id) as nth,
    c.id, c.user_id, c.lane_id, c.campaign_id, c.attempt_number, c.dials, c.dials_max, c.dials_granted, c.priority, c.rank, c.phone, c.given,
    c.script_id, c.metadata, c.variables, c.due_at, c.prospect_id
),
attempted as (
  insert into attempts (
    id, call_id, user_id, lane_id, campaign_id, instance_id, number, claimed_at, check_at, phone, provider, reserved_minutes, counted_on,
    spent_on, minute_price
  )
  select
    attempt_ids[nth], id, user_id, lane_id, campaign_id, instance, attempt_number, now_is,
    now_is + make_interval(secs => lease_secs), phone, provider_name, minutes[nth], days[nth], spent_ons[nth], prices[nth]
  from claimed
),
-- The ledger of dials; what rang no phone leaves it again (a trigger).
dialed as (
  insert into dials (user_id, dialed_at, call_id, phone)
  select user_id, now_is, id, phone
  from claimed
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, sum(v.n)
  from claimed
  cross join (values ('PENDING', -1), ('IN_PROGRESS', 1)) as v(what, n)
  group by lane_id, user_id, campaign_id, what
)
select
  now_is, null::integer, null::bigint, null::timestamptz, null::boolean, null::timestamptz, null::uuid[], null::uuid[], null::boolean,
  attempt_ids[k.nth], k.id, k.attempt_number, k.dials, coalesce((g.max_retries + 1 + k.dials_granted)::smallint, k.dials_max), k.priority, k.rank,
  g.retry_delay_secs, coalesce(k.given, k.phone), k.script_id, k.metadata, k.variables, k.due_at, minutes[k.nth], k.prospect_id, s.agent,
  s.retry_rules
from claimed k
left join lateral (select retry_delay_secs, max_retries from campaigns where id = k.campaign_id offset 0) g on true
left join lateral (
  select
    jsonb_strip_nulls(jsonb_build_object('language', language, 'voice', voice, 'firstMessage', first_message)) as agent,
    case when k.campaign_id is null then retry_rules end as retry_rules
  from user_settings where user_id = k.user_id offset 0
) s on true;

  -- What only some claims need.
  if rate > 0 then
    insert into provider_rates as r (provider, tokens, counted_at)
    values ($4, tokens - (select count(*) from attempts where id = any (attempt_ids)), now_is)
    on conflict (provider) do update set tokens = excluded.tokens, counted_at = excluded.counted_at;
  end if;
  if metered <> '{}' then
    update subscriptions s
    set day_dials = s.day_dials + d.n
    from (
      select user_id, count(*)::int as n from attempts where id = any (attempt_ids) and reserved_minutes is not null group by user_id
    ) d
    where s.user_id = any (countable) and s.user_id = d.user_id;
  end if;
  -- Where the ring is longer than one look, those who were served go to its end.
  if contended then
    update lanes set next_at = now_is
    where id = any (array(
      select id from lanes where id = any (array(select lane_id from attempts where id = any (attempt_ids))) for no key update skip locked
    ));
  end if;
  if contended or probes is not null then
    update user_turns
    set
      next_at = case when contended then now_is else next_at end,
      probed_at = case when probes is not null then now_is else probed_at end
    where user_id = any (array(
      select user_id from user_turns
      where user_id = any (array(select user_id from attempts where id = any (attempt_ids)))
      for no key update skip locked
    ));
  end if;
end
$$;
