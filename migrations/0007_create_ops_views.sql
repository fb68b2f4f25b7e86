-- The operator's door: what the queue holds, why each call waits, what is live, in doubt or broken, in plain SQL.

alter table installation
  add column max_concurrent_calls int not null default 30,
  add column provider text not null default 'simulator';
comment on column installation.max_concurrent_calls is 'The global limit in force, as the newest process was told it; for views. The claim is given it by the process.';
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

create view ops.waiting as
  with limits as (
    select i.max_concurrent_calls as global_max, i.provider,
      (select count(*) from attempts where ended_at is null) as global_live
    from installation i
  ),
  user_live as (
    select user_id, count(*) as n from attempts where ended_at is null group by user_id
  ),
  campaign_live as (
    select campaign_id, count(*) as n from attempts where ended_at is null and campaign_id is not null group by campaign_id
  )
  select
    c.id as call_id, c.user_id, c.campaign_id, c.lane_id, c.rank, c.due_at, w.reason,
    case
      when w.reason in ('SCHEDULED_LATER', 'RETRY_LATER', 'WINDOW_CLOSED') then
        nullif(greatest(c.due_at, case when l.closes_at <= clock() then 'infinity' else l.opens_at end), 'infinity')
      when w.reason in ('PROVIDER_CAPACITY', 'BREAKER_OPEN') then h.hold_until
    end as clears_at,
    case
      when w.reason = 'NUMBER_BUSY' then
        (select a.call_id::text from attempts a where a.phone = c.phone and a.ended_at is null and a.user_id = c.user_id)
    end as detail
  from calls c
  join lanes l on l.id = c.lane_id
  join users u on u.id = c.user_id
  left join campaigns g on g.id = c.campaign_id
  left join limits s on true
  left join user_live ul on ul.user_id = c.user_id
  left join campaign_live cl on cl.campaign_id = c.campaign_id
  left join provider_holds h on h.provider = s.provider and h.hold_until > clock()
  cross join lateral (
    select case
      when l.paused then 'CAMPAIGN_PAUSED'
      when l.closes_at <= clock() then 'WINDOW_CLOSED'
      when l.opens_at > clock() and l.opens_at >= c.due_at then 'WINDOW_CLOSED'
      when c.due_at > clock() then case when c.rank = 2 then 'RETRY_LATER' else 'SCHEDULED_LATER' end
      when exists (select from attempts a where a.phone = c.phone and a.ended_at is null) then 'NUMBER_BUSY'
      when coalesce(cl.n, 0) >= g.max_concurrent_calls then 'CAMPAIGN_LIMIT'
      when coalesce(ul.n, 0) >= u.max_concurrent_calls then 'USER_LIMIT'
      when s.global_live >= s.global_max then 'GLOBAL_LIMIT'
      when h.reason is not null then h.reason
      else 'DUE_NOW'
    end as reason
  ) w
  where c.state in ('waiting', 'parked');
comment on view ops.waiting is 'Why each waiting call waits (exactly one reason), until when, and for NUMBER_BUSY which call of the same user has the number.';

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
    or (l.blocked_on = 'campaign' and (select count(*) from attempts a where a.campaign_id = l.campaign_id and a.ended_at is null)
        < (select max_concurrent_calls from campaigns g where g.id = l.campaign_id))
    or (l.blocked_on = 'user' and (select count(*) from attempts a where a.user_id = l.user_id and a.ended_at is null)
        < coalesce((select max_concurrent_calls from users u where u.id = l.user_id), 2147483647))
  union all
  select 'final call without a disposition', c.id from calls c
  where c.state in ('completed', 'failed') and c.disposition is null
  union all
  select 'count of ' || coalesce(t.what, public_status(c.state)) || ' is off', coalesce(t.user_id, c.user_id)
  from (
    select user_id, campaign_id, what, n from ops.tallies where what <> 'RETRIES' and n <> 0
  ) t
  full join (
    select user_id, campaign_id, public_status(state) as what, min(state) as state, count(*) as n
    from calls group by user_id, campaign_id, public_status(state)
  ) c on c.user_id = t.user_id and c.campaign_id is not distinct from t.campaign_id and c.what = t.what
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
  ms       text := lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0');
  new_id   uuid := (substr(ms, 1, 8) || '-' || substr(ms, 9, 4) || '-7' || substr(gen_random_uuid()::text, 16))::uuid;
  verdict  record;
begin
  if number !~ '^\+[1-9][0-9]{6,14}$' then
    raise exception 'to: not an E.164 number, such as +14155550100' using errcode = '22023';
  elsif wanted is null then
    raise exception 'priority: high, normal or low' using errcode = '22023';
  elsif owner is null then
    raise exception 'user: no user with this id or external id' using errcode = '22023';
  end if;
  select * into verdict from public.enqueue(
    array[new_id], array[owner], array[owner], array[null]::uuid[], array[wanted], array[wanted], array[scheduled_at],
    array[expires_at], array[number], array[script_id], array[metadata], array['{}']::jsonb[], array[external_id],
    array[null]::text[], array[false], array[max_attempts]::smallint[], array[false]);
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
