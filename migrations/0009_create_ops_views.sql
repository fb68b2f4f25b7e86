-- The operator's door: what the queue holds, why each call waits, what is live, in doubt or broken, in plain SQL.

alter table installation
  add column max_concurrent_calls int not null default 30,
  add column provider text not null default 'simulator',
  add column dials_per_second float8 not null default 0;
comment on column installation.max_concurrent_calls is 'The global limit in force, as the newest process was told it; for views. The claim is given it by the process.';
comment on column installation.dials_per_second is 'The rate in force; for views.';
comment on column installation.provider is 'The provider in force; for views.';

create function ops.uuid_floor(at timestamptz) returns uuid
language sql stable parallel safe
as $$
  select (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7000-8000-000000000000')::uuid
  from lpad(to_hex(greatest(0, extract(epoch from at) * 1000)::bigint), 12, '0') as h
$$;
comment on function ops.uuid_floor(timestamptz) is 'The smallest id made at a time: ids are UUIDv7, so "the last hour" is a range of the primary key.';

create view ops.queue as
  select
    c.user_id, c.campaign_id, c.lane_id, public_status(c.state) as status, c.rank, count(*) as calls,
    min(c.due_at) as oldest_due_at, max(c.due_at) as newest_due_at
  from calls c
  where c.state in ('waiting', 'parked', 'live')
  group by c.user_id, c.campaign_id, c.lane_id, public_status(c.state), c.rank;
comment on view ops.queue is 'Open calls by user, campaign, lane, status and rank.';

create view ops.limits as
  select
    l.*,
    case
      when l.global_live >= l.global_max then 'GLOBAL_LIMIT'
      when l.hold_reason is not null then l.hold_reason
      when l.token_at is not null then 'PROVIDER_RATE'
      else 'DUE_NOW'
    end as reason,
    case
      when l.global_live >= l.global_max then null
      when l.hold_reason is not null then l.hold_until
      else l.token_at
    end as clears_at
  from (
    select
      i.provider, i.max_concurrent_calls as global_max, a.live as global_live,
      case
        when p.hold_until > clock() then p.reason
        when p.half_open and a.probing > 0 then 'BREAKER_OPEN'
        when a.live >= ceiling_of(p, i.max_concurrent_calls) then 'PROVIDER_CAPACITY'
      end as hold_reason,
      case when p.hold_until > clock() then p.hold_until end as hold_until,
      ceiling_of(p, i.max_concurrent_calls) as provider_ceiling,
      case when p.hold_until > clock() and p.reason = 'BREAKER_OPEN' then 'open' when p.half_open then 'half-open' else 'closed' end as breaker,
      r.counted_at + make_interval(secs => (1 - r.tokens) / nullif(i.dials_per_second, 0)) as token_at
    from installation i
    left join provider_states p on p.provider = i.provider
    cross join lateral (
      select count(*) as live, count(*) filter (where state = 'dialing' and claimed_at >= p.hold_until) as probing
      from attempts
      where ended_at is null
    ) a
    left join provider_rates r on r.provider = i.provider and i.dials_per_second > 0
      and r.tokens + i.dials_per_second * extract(epoch from clock() - r.counted_at) < 1
  ) l;
comment on view ops.limits is
  'What holds for all calls at once: slots, what the provider takes (holds, breaker, learned ceiling), when its next token is there; '
  'and what of it holds a call that nothing else holds, or DUE_NOW.';

create view ops.lanes as
  select
    l.id as lane_id, l.user_id, l.campaign_id, l.country, l.zones, o.opens_at, l.closes_at, v.held_by, v.closed_by,
    case when v.held_by is null and v.closed_by is not null and o.opens_at > clock() then o.opens_at end as clears_at
  from lanes l
  left join quotas q on q.user_id = l.user_id
  -- A day that is used up closes a lane as its window does.
  cross join lateral (
    select case when q.reason = 'QUOTA_PER_DAY' then greatest(l.opens_at, q.day_ends_at) else l.opens_at end as opens_at
  ) o
  cross join lateral (
    select
      case
        when l.paused then 'CAMPAIGN_PAUSED'
        when q.reason in ('SUBSCRIPTION_INACTIVE', 'QUOTA_MINUTES') then q.reason
        when l.closed_by in ('ZONE_UNKNOWN', 'WINDOW_NEVER_OPENS') then l.closed_by
      end as held_by,
      case when o.opens_at > clock() or l.closes_at <= clock() then
        case when q.reason = 'QUOTA_PER_DAY' and q.day_ends_at > l.opens_at then q.reason else coalesce(l.closed_by, 'WINDOW_CLOSED') end
      end as closed_by
  ) v;
comment on view ops.lanes is
  'What holds the calls of a lane, and until when: held_by, whatever their time, until a person acts; closed_by, outside its hours.';

create view ops.waiting as
  select
    c.id as call_id, c.user_id, c.campaign_id, c.lane_id, c.rank, c.due_at, w.reason,
    case
      when t.is_later then case when c.due_at < l.closes_at then c.due_at end
      when w.reason = coalesce(l.held_by, l.closed_by) then l.clears_at
      when w.reason = s.reason then s.clears_at
    end as clears_at,
    case
      when w.reason = 'NUMBER_BUSY' then
        (select a.call_id::text from attempts a where a.phone = c.phone and a.ended_at is null and a.user_id = c.user_id)
    end as detail
  from calls c
  join ops.lanes l on l.lane_id = c.lane_id
  join users u on u.id = c.user_id
  left join campaigns g on g.id = c.campaign_id
  left join ops.limits s on true
  left join (
    select user_id, count(*) as n from attempts where ended_at is null group by user_id
  ) ul on ul.user_id = c.user_id
  left join (
    select campaign_id, count(*) as n from attempts where ended_at is null and campaign_id is not null group by campaign_id
  ) cl on cl.campaign_id = c.campaign_id
  cross join lateral (
    select c.state = 'waiting' and c.due_at > clock() and c.due_at >= l.opens_at and l.held_by is null as is_later
  ) t
  cross join lateral (
    select
      case
        -- Due when the window is over: what it waits for is the one after.
        when t.is_later then case when c.due_at >= l.closes_at then 'WINDOW_CLOSED' else later_reason(c.rank) end
        when l.held_by is not null then l.held_by
        when l.closed_by is not null then l.closed_by
        when exists (select from attempts a where a.phone = c.phone and a.ended_at is null) then 'NUMBER_BUSY'
        when cl.n >= g.max_concurrent_calls then 'CAMPAIGN_LIMIT'
        when ul.n >= u.max_concurrent_calls then 'USER_LIMIT'
        else coalesce(s.reason, 'DUE_NOW')
      end as reason
  ) w
  where c.state in ('waiting', 'parked');
comment on view ops.waiting is 'Why each waiting call waits (exactly one reason), until when, and for NUMBER_BUSY which call of the same user has the number.';

-- The same as ops.waiting summed up, without looking at the calls: counts come from the tallies of the lanes; looked up, by their
-- indexes, are only a lane's first later call, those of this very second, and those whose number is on a call, at most one for each
-- slot in use.
create function ops.explain(campaign uuid) returns table (reason text, count bigint, clears_at timestamptz)
language plpgsql stable
-- A plan is kept that may have been made while nothing waited for a later time: it must be made of look-ups, and not be compiled
-- for the millions of rows the planner fears.
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  -- Read after the snapshot, milliseconds behind clock(): whoever is seen to have left because it was due, was due by then.
  now_is constant timestamptz := coalesce(nullif(current_setting('outdial.now', true), '')::timestamptz, clock_timestamp());
begin
  return query
  with full_by as materialized (
    select v.reason, case when v.reason = s.reason then s.clears_at end as clears_at
    from public.campaigns g
    join public.users u on u.id = g.user_id
    left join ops.limits s on true
    cross join lateral (
      select case
        when (select count(*) from public.attempts where campaign_id = g.id and ended_at is null) >= g.max_concurrent_calls then 'CAMPAIGN_LIMIT'
        when (select count(*) from public.attempts where user_id = g.user_id and ended_at is null) >= u.max_concurrent_calls then 'USER_LIMIT'
        else coalesce(s.reason, 'DUE_NOW')
      end as reason
    ) v
    where g.id = campaign
  ),
  pending as materialized (
    select lane_id, sum(n) as n
    from (
      select lane_id, n from public.tallies where campaign_id = campaign and what = 'PENDING'
      union all
      select lane_id, n from public.tally_deltas where campaign_id = campaign and what = 'PENDING'
    ) t
    group by lane_id
    having sum(n) <> 0
  ),
  -- Each lane with what holds those of its calls that nothing of their own holds.
  judged as materialized (
    select
      l.lane_id, p.n, l.opens_at, l.closes_at, l.held_by, l.closed_by,
      coalesce(l.held_by, l.closed_by, f.reason) as reason,
      case when coalesce(l.held_by, l.closed_by) is null then f.clears_at else l.clears_at end as clears_at
    from pending p
    cross join lateral (
      select * from ops.lanes l where l.lane_id = p.lane_id offset 0
    ) l
    cross join full_by f
  ),
  held as materialized (
    -- Later than now and not before the window opens. Not before it closes either: they wait for the one after.
    select j.lane_id, j.reason as was, v.reason, v.n, v.clears_at
    from judged j
    cross join lateral (
      select greatest(j.opens_at, now_is + interval '1 microsecond') as at
    ) e
    cross join lateral (
      select
        t.reason, t.n,
        (select min(c.due_at)
         from generate_series(0, 4) as r(rank)
         cross join lateral (
           select c.due_at from public.calls c
           where c.lane_id = j.lane_id and c.state = 'waiting' and c.rank = r.rank::smallint and c.due_at >= e.at and c.due_at < j.closes_at
           order by c.due_at
           limit 1
         ) c
         where public.later_reason(r.rank::smallint) = t.reason) as clears_at
      from public.later_from(j.lane_id, e.at) t
      union all
      select r.reason, r.n * t.n, null
      from public.later_from(j.lane_id, greatest(e.at, j.closes_at)) t
      cross join lateral (values (t.reason, -1), ('WINDOW_CLOSED', 1)) as r(reason, n)
      where j.closes_at < 'infinity'
    ) v
    where j.held_by is null
    union all
    select j.lane_id, j.reason, 'NUMBER_BUSY', 1, null
    from public.attempts a
    join public.calls c on c.campaign_id = campaign and c.phone = a.phone and c.state in ('waiting', 'parked')
    join judged j on j.lane_id = c.lane_id and coalesce(j.held_by, j.closed_by) is null
    where a.ended_at is null and c.due_at <= now_is
  )
  select t.reason, sum(t.n)::bigint, min(t.clears_at)
  from (
    select reason, sum(n) as n, min(clears_at) as clears_at
    from (
      select lane_id, reason, n, clears_at from judged
      union all
      select lane_id, was, -n, null from held
    ) rest
    group by lane_id, reason
    having sum(n) <> 0
    union all
    select reason, n, clears_at from held
  ) t
  group by t.reason
  having sum(t.n) > 0;
end
$$;
comment on function ops.explain(uuid) is 'Why the calls of a campaign wait: counts by reason, and when each next clears.';

create view ops.campaigns as
  select
    g.id, g.user_id, g.external_id, g.name, g.schedule_id, g.script_id, g.max_concurrent_calls, g.max_retries, g.retry_delay_secs,
    g.hours_in, g.zone_policy, g.paused, g.created_at, g.updated_at, g.canceled_at,
    case
      when g.canceled_at is not null then 'canceled'
      when g.paused and (n.pending + n.in_progress > 0 or n.total = 0) then 'paused'
      when n.total = 0 or (n.pending > 0 and n.in_progress = 0 and n.dials = 0) then 'pending'
      when n.pending + n.in_progress > 0 then 'in-progress'
      when n.completed > 0 then 'completed'
      else 'failed'
    end as status,
    n.*
  from campaigns g
  cross join lateral (
    select
      coalesce(sum(t.n) filter (where t.what not in ('DIALS', 'RETRIES')), 0)::bigint as total,
      coalesce(sum(t.n) filter (where t.what = 'PENDING'), 0)::bigint as pending,
      coalesce(sum(t.n) filter (where t.what = 'IN_PROGRESS'), 0)::bigint as in_progress,
      coalesce(sum(t.n) filter (where t.what = 'COMPLETED'), 0)::bigint as completed,
      coalesce(sum(t.n) filter (where t.what = 'FAILED'), 0)::bigint as failed,
      coalesce(sum(t.n) filter (where t.what = 'EXPIRED'), 0)::bigint as expired,
      coalesce(sum(t.n) filter (where t.what = 'CANCELED'), 0)::bigint as canceled,
      coalesce(sum(t.n) filter (where t.what = 'RETRIES'), 0)::bigint as retries_attempted,
      coalesce(sum(t.n) filter (where t.what = 'DIALS'), 0)::bigint as dials
    from (
      select what, n from tallies where campaign_id = g.id
      union all
      select what, n from tally_deltas where campaign_id = g.id
    ) t
  ) n
  where g.deleted_at is null;
comment on view ops.campaigns is 'Campaigns with their status and counts, from the tallies of their lanes: exact at any moment, however many calls.';

create view ops.prospects as
  select
    p.id, p.user_id, p.external_id, p.name, p.phone,
    case c.state
      when 'live' then 'IN_CALL'
      when 'waiting' then case when p.status = 'RESCHEDULED' and p.rescheduled_for is not null then p.status else 'SCHEDULED' end
      when 'parked' then case when p.status = 'RESCHEDULED' and p.rescheduled_for is not null then p.status else 'SCHEDULED' end
      else p.status
    end as status,
    p.time_zone, p.rescheduled_for, p.reschedules, p.last_contacted_at, p.reached_at, p.disposition, p.variables, p.call_id,
    p.created_at, p.updated_at
  from prospects p
  left join calls c on c.prospect_id = p.id and c.state in ('waiting', 'parked', 'live')
  where p.deleted_at is null;
comment on view ops.prospects is 'Prospects with their status as it is now: SCHEDULED and IN_CALL follow from the open call.';

create view ops.live_calls as
  select
    a.call_id, a.id as attempt_id, a.number as attempt_number, a.user_id, a.campaign_id, a.lane_id, a.state, a.phone,
    a.provider, a.provider_call_id, a.claimed_at, clock() - a.claimed_at as age, a.check_at, a.instance_id
  from attempts a
  where a.ended_at is null;
comment on view ops.live_calls is 'Open attempts: the slots in use, and for how long.';

create view ops.expired_leases as
  select a.call_id, a.id as attempt_id, a.state, a.claimed_at, a.instance_id, i.lease_until, i.host
  from attempts a
  left join instances i on i.id = a.instance_id
  where a.ended_at is null and a.state = 'dialing' and (i.lease_until is null or i.lease_until <= clock());
comment on view ops.expired_leases is 'Attempts whose process died while dialing; within seconds they turn unknown.';

create view ops.unknown_attempts as
  select a.call_id, a.id as attempt_id, a.provider, a.claimed_at, a.sent_at, clock() - a.claimed_at as age, a.misses, a.check_at
  from attempts a
  where a.ended_at is null and a.state = 'unknown';
comment on view ops.unknown_attempts is 'Attempts in doubt: the provider may or may not have them. Looked up, never redialed on a guess.';

create view ops.provider_errors as
  select e.received_at, e.type, a.provider, a.call_id, e.attempt_id, e.body
  from events e
  join attempts a on a.id = e.attempt_id
  where e.attempt_id >= ops.uuid_floor(clock() - interval '3 hours') and e.received_at > clock() - interval '1 hour'
    and e.type in ('refused', 'capacity', 'not_sent', 'doubt', 'not_found', 'overdue');
comment on view ops.provider_errors is 'What went wrong with the provider in the last hour.';

create view ops.throughput as
  select
    date_trunc('minute', a.claimed_at) as minute,
    count(*) as claimed,
    count(*) filter (where a.dialed) as dialed,
    count(*) filter (where a.state = 'ended') as ended,
    count(*) filter (where a.state = 'ended' and a.disposition = 'COMPLETED') as completed
  from attempts a
  where a.id >= ops.uuid_floor(clock() - interval '1 hour')
  group by 1;
comment on view ops.throughput is 'Attempts of the last hour by the minute they were claimed in.';

-- Rows here are bugs. Tests end with it, doctor prints it, an alert may watch it.
create view ops.broken as
  select 'live call without its open attempt' as what, c.id from calls c
  where c.state = 'live' and not exists (
    select from attempts a where a.call_id = c.id and a.number = c.attempt_number and a.ended_at is null)
  union all
  select 'open attempt of a call that is not live', a.call_id from attempts a
  where a.ended_at is null and not exists (
    select from calls c where c.id = a.call_id and c.state = 'live' and c.attempt_number = a.number)
  union all
  select 'parked call that nothing will wake', c.id from calls c
  where c.state = 'parked'
    and not exists (select from attempts a where a.phone = c.phone and a.ended_at is null)
    and not exists (select from calls w where w.phone = c.phone and w.lane_id = c.lane_id and w.state = 'waiting')
  union all
  select 'lane asleep over a waiting call', l.id from lanes l
  where l.blocked_on is null and exists (
    select from calls c where c.lane_id = l.id and c.state = 'waiting' and greatest(l.opens_at, c.due_at, clock()) < l.next_at)
  union all
  select 'lane asleep over a promise', l.id from lanes l
  where l.blocked_on is null and exists (
    select from calls c
    where c.lane_id = l.id and c.state = 'waiting' and c.rank < 2 and greatest(l.opens_at, c.due_at, clock()) < l.urgent_at)
  union all
  select 'user asleep over a lane', t.user_id from user_turns t
  where t.blocked_on is null and t.next_at > (select greatest(min(l.next_at), clock()) from lanes l where l.user_id = t.user_id)
  union all
  select 'lane blocked without its reason', l.id from lanes l
  where (l.blocked_on = 'pause' and not l.paused)
    or (l.blocked_on = 'window' and l.closes_at > clock() + interval '1 minute')
    or (l.blocked_on = 'campaign' and (select count(*) from attempts a where a.campaign_id = l.campaign_id and a.ended_at is null)
        < (select max_concurrent_calls from campaigns g where g.id = l.campaign_id))
    or (l.blocked_on = 'user' and (select count(*) from attempts a where a.user_id = l.user_id and a.ended_at is null)
        < coalesce((select max_concurrent_calls from users u where u.id = l.user_id), 2147483647))
    or (l.blocked_on = 'quota' and coalesce((select calls > 0 from quotas q where q.user_id = l.user_id), true))
  union all
  select 'day of a subscription is off', s.user_id from subscriptions s
  where s.day is not null and s.day_dials <> (select count(*) from attempts a where a.user_id = s.user_id and a.counted_on = s.day)
  union all
  select 'ended attempt whose minutes were not taken', a.id from attempts a
  where a.reserved_minutes is not null and a.ended_at is not null
    and a.charged_minutes is distinct from case when a.dialed then ceil(coalesce(a.duration_secs, 0) / 60.0)::int else 0 end
  union all
  select 'promise that nobody keeps', p.id from prospects p
  where p.status = 'RESCHEDULED' and p.rescheduled_for is not null and p.deleted_at is null
    and not exists (select from calls c where c.prospect_id = p.id and c.state in ('waiting', 'parked', 'live'))
    and not exists (select from suppressions s where s.phone = p.phone)
  union all
  select 'final call without a disposition', c.id from calls c
  where c.state in ('completed', 'failed') and c.disposition is null
  union all
  select 'count of ' || coalesce(t.what, public_status(c.state)) || ' is off', coalesce(t.lane_id, c.lane_id)
  from (
    select lane_id, what, n from ops.tallies where what not in ('DIALS', 'RETRIES') and n <> 0
  ) t
  full join (
    select lane_id, public_status(state) as what, min(state) as state, count(*) as n
    from calls group by lane_id, public_status(state)
  ) c on c.lane_id = t.lane_id and c.what = t.what
  where t.n is distinct from c.n
  union all
  -- A little ahead, so that a call that falls due while this is read is not taken for a lost one.
  select 'count of ' || coalesce(t.reason, c.reason) || ' is off', coalesce(t.lane_id, c.lane_id)
  from (
    select lane_id, reason, date_trunc('second', due_at) as due_at, sum(n) as n
    from (
      select lane_id, reason, starts_at as due_at, n from later_tallies where span_secs = 1
      union all
      select lane_id, reason, due_at, n from later_deltas
    ) t
    where due_at >= date_trunc('second', clock()) + interval '10 seconds'
    group by 1, 2, 3
    having sum(n) <> 0
  ) t
  full join (
    select lane_id, later_reason(rank) as reason, date_trunc('second', due_at) as due_at, count(*) as n
    from calls
    where state = 'waiting' and campaign_id is not null and due_at >= date_trunc('second', clock()) + interval '10 seconds'
    group by 1, 2, 3
  ) c on c.lane_id = t.lane_id and c.reason = t.reason and c.due_at = t.due_at
  where t.n is distinct from c.n;
comment on view ops.broken is 'Invariants that do not hold: always empty. Reads the whole queue; not for every minute.';

create function ops.enqueue(
  "to" text, script_id text, metadata jsonb default '{}', scheduled_at timestamptz default null,
  priority text default 'normal', expires_at timestamptz default null, "user" text default 'operator',
  external_id text default null, max_attempts int default 3
) returns uuid
language plpgsql
as $$
#variable_conflict use_column
declare
  number   text := regexp_replace("to", '[[:space:]().-]', '', 'g');
  wanted   smallint := case priority when 'high' then 1 when 'normal' then 3 when 'low' then 4 end;
  owner    uuid := (select id from users where external_id = "user" or id::text = "user");
  new_id   uuid := uuid_v7();
  verdict  record;
begin
  if number !~ '^\+[1-9][0-9]{6,14}$' then
    raise exception 'to: not an E.164 number, such as +14155550100' using errcode = '22023';
  elsif wanted is null then
    raise exception 'priority: high, normal or low' using errcode = '22023';
  elsif scheduled_at >= '10000-01-01 00:00:00+00' then
    raise exception 'scheduled_at: not a time before the year 10000' using errcode = '22023';
  elsif owner is null then
    raise exception 'user: no user with this id or external id' using errcode = '22023';
  end if;
  select * into verdict from public.enqueue(
    array[new_id], array[owner],
    array[case when owner = '00000000-0000-7000-8000-000000000001' then owner else unsorted_lane(owner) end], array[null]::uuid[], array[wanted], array[wanted], array[scheduled_at],
    array[expires_at], array[number], array[script_id], array[metadata], array['{}']::jsonb[], array[external_id],
    array[null]::text[], array[false], array[max_attempts]::smallint[], array[false], array[null]::uuid[]);
  if verdict.suppressed then
    raise exception 'to: the number is on a do-not-call list' using errcode = '22023';
  elsif verdict.created_at is null then
    raise exception 'external_id: a call of this user has it already' using errcode = '23505';
  end if;
  perform pg_notify('outdial', '');
  return new_id;
end
$$;
comment on function ops.enqueue is 'The supported door for plain SQL: normalizes the number, finds the lane, takes the admission lock, wakes the workers.';
