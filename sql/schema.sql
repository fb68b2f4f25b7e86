-- The schema of a new database, dumped from the migrations by `make schema` and held true by tests/it/schema.rs.
-- Loads into an empty database: psql -d name -f sql/schema.sql; the service then starts on it.

set check_function_bodies = false;

CREATE SCHEMA ops;

COMMENT ON SCHEMA ops IS 'What operators may read and call: stable views and functions. Tables may change, these may not.';

CREATE TYPE public.attempt_state AS ENUM (
    'dialing',
    'unknown',
    'accepted',
    'ended'
);

COMMENT ON TYPE public.attempt_state IS 'dialing: committed, the provider is being asked. unknown: nobody knows whether the provider took it. accepted: the provider has it. ended: the slot is free.';

CREATE TYPE public.call_state AS ENUM (
    'waiting',
    'parked',
    'live',
    'completed',
    'failed',
    'expired',
    'canceled'
);

COMMENT ON TYPE public.call_state IS 'waiting: in its lane. parked: due, but its number is on another call. live: has an open attempt. The rest are final.';

CREATE FUNCTION ops.enqueue("to" text, script_id text, metadata jsonb DEFAULT '{}'::jsonb, scheduled_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority text DEFAULT 'normal'::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, "user" text DEFAULT 'operator'::text, external_id text DEFAULT NULL::text, max_attempts integer DEFAULT 3) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'ops', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  number   text := regexp_replace("to", '[[:space:]().-]', '', 'g');
  wanted   smallint := case priority when 'high' then 1 when 'normal' then 3 when 'low' then 4 end;
  owner    uuid := (select id from users where external_id = "user" or id::text = "user");
  new_id   uuid := uuid_v7();
  lane     uuid;
begin
  if number !~ '^\+[1-9][0-9]{6,14}$' then
    raise exception 'to: not an E.164 number, such as +14155550100' using errcode = '22023';
  elsif wanted is null then
    raise exception 'priority: high, normal or low' using errcode = '22023';
  elsif not public.is_computable(scheduled_at) then
    raise exception 'scheduled_at: not a time within the years 1900 to 9999' using errcode = '22023';
  elsif not public.is_computable(expires_at) then
    raise exception 'expires_at: not a time within the years 1900 to 9999' using errcode = '22023';
  elsif metadata is null or public.json_fault(metadata) is not null then
    raise exception 'metadata: %', coalesce(public.json_fault(metadata), 'is null') using errcode = '22023';
  elsif script_id is null or btrim(script_id) = '' or char_length(script_id) > 20000 then
    raise exception 'script_id: must have 1 to 20000 characters' using errcode = '22023';
  elsif btrim(external_id) = '' or char_length(external_id) > 255 then
    raise exception 'external_id: must have 1 to 255 characters' using errcode = '22023';
  elsif max_attempts is null or max_attempts not between 1 and 100 then
    raise exception 'max_attempts: must be 1 to 100' using errcode = '22023';
  elsif owner is null then
    raise exception 'user: no user with this id or external id' using errcode = '22023';
  elsif exists (select from public.suppressions s
                where s.phone = public.identity_of(number) and s.user_id in (owner, '00000000-0000-7000-8000-000000000001')) then
    raise exception 'to: the number is on a do-not-call list' using errcode = '22023';
  end if;
  lane := public.unsorted_lane(owner);
  insert into public.calls (
    id, user_id, lane_id, rank, priority, due_at, expires_at, phone, given, script_id, metadata, external_id, dials_max)
  values (
    new_id, owner, lane, wanted, wanted, coalesce(scheduled_at, clock()), expires_at,
    public.identity_of(number), nullif(number, public.identity_of(number)), script_id, metadata, external_id, max_attempts::smallint)
  on conflict do nothing;
  if not found then
    raise exception 'external_id: a call of this user has it already' using errcode = '23505';
  end if;
  insert into public.tally_deltas (lane_id, user_id, what, n) values (lane, owner, 'PENDING', 1);
  perform pg_notify('outdial', 'sql');
  return new_id;
end
$_$;

COMMENT ON FUNCTION ops.enqueue("to" text, script_id text, metadata jsonb, scheduled_at timestamp with time zone, priority text, expires_at timestamp with time zone, "user" text, external_id text, max_attempts integer) IS 'The supported door for plain SQL: normalizes the number, leaves the call for the service to put into its lane, and rings. Takes no lock that others wait for.';

CREATE FUNCTION ops.explain(campaign uuid) RETURNS TABLE(reason text, count bigint, clears_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET search_path TO 'public', 'ops', 'pg_temp'
    AS $$
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
        case when t.reason = 'FREQUENCY_CAP' then (
          select min(c.due_at) from public.calls c
          where c.lane_id = j.lane_id and c.capped_until = c.due_at and c.due_at >= e.at and c.due_at < j.closes_at and c.state = 'waiting')
        else (select min(c.due_at)
         from generate_series(0, 4) as r(rank)
         cross join lateral (
           select c.due_at from public.calls c
           where c.lane_id = j.lane_id and c.state = 'waiting' and c.rank = r.rank::smallint and c.due_at >= e.at and c.due_at < j.closes_at
             and c.capped_until is distinct from c.due_at
           order by c.due_at
           limit 1
         ) c
         where public.later_reason(r.rank::smallint) = t.reason) end as clears_at
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

COMMENT ON FUNCTION ops.explain(campaign uuid) IS 'Why the calls of a campaign wait: counts by reason, and when each next clears.';

CREATE FUNCTION ops.uuid_floor(at timestamp with time zone) RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7000-8000-000000000000')::uuid
  from lpad(to_hex(greatest(0, extract(epoch from at) * 1000)::bigint), 12, '0') as h
$$;

COMMENT ON FUNCTION ops.uuid_floor(at timestamp with time zone) IS 'The smallest id made at a time: ids are UUIDv7, so "the last hour" is a range of the primary key.';

CREATE FUNCTION public.admission_is_brief() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  since text := current_setting('outdial.admitted_at', true);
begin
  if is_service() then
    return; -- The service has time-outs of its own, on every connection.
  end if;
  if coalesce(since, '') = '' then
    perform set_config('outdial.admitted_at', clock_timestamp()::text, true);
    perform set_config('idle_in_transaction_session_timeout', '2s', true);
    perform set_config('statement_timeout', '5s', true);
    perform set_config('lock_timeout', '5s', true);
  elsif clock_timestamp() - since::timestamptz > interval '3 seconds' then
    raise exception 'this transaction has held the queue''s lock for over 3 s: write fewer rows at a time, and commit in between'
      using errcode = '54000';
  end if;
end
$$;

COMMENT ON FUNCTION public.admission_is_brief() IS 'Bounds for how long a session that is not the service''s may hold the admission lock: 2 s idle, 3 s of work, 5 s for a statement.';

CREATE FUNCTION public.admission_lock(shared boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  is_first boolean := coalesce(current_setting('outdial.admitted_at', true), '') = '';
begin
  perform admission_is_brief();
  if shared then
    perform pg_advisory_xact_lock_shared(7001);
  else
    perform pg_advisory_xact_lock(7001);
  end if;
  -- Who waits for a row with the lock in hand makes everybody wait: a row that somebody holds is given up soon, and what needs it.
  perform set_config('lock_timeout', case when shared then '500ms' else '200ms' end, true);
  -- Waiting for it is not holding it.
  if is_first and coalesce(current_setting('outdial.admitted_at', true), '') <> '' then
    perform set_config('outdial.admitted_at', clock_timestamp()::text, true);
  end if;
end
$$;

COMMENT ON FUNCTION public.admission_lock(shared boolean) IS 'The admission lock: together with other feeders, or alone. Held briefly: a row is waited for 0.5 s with it in hand, or 0.2 s alone.';

CREATE FUNCTION public.appointments_tell_endpoints() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  perform tell_endpoints(new.user_id, new.call_id, 'appointment.created', jsonb_strip_nulls(jsonb_build_object(
    'appointmentId', new.id, 'userId', new.user_id, 'prospectId', new.prospect_id, 'callId', new.call_id,
    'conversationId', new.attempt_id, 'startsAt', new.starts_at)));
  return null;
end
$$;

COMMENT ON FUNCTION public.appointments_tell_endpoints() IS 'Writes a new appointment into the outbox.';

CREATE FUNCTION public.attempts_make_appointments() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  insert into appointments (id, user_id, attempt_id, call_id, prospect_id, starts_at)
  select uuid_v7(), new.user_id, new.id, new.call_id, c.prospect_id, (new.told ->> 'appointmentTime')::timestamptz
  from calls c
  where c.id = new.call_id
  on conflict (attempt_id) do nothing;
  return null;
end
$$;

COMMENT ON FUNCTION public.attempts_make_appointments() IS 'An attempt that ends with an appointment makes it, in the same statement.';

CREATE FUNCTION public.attempts_settle_minutes() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
  minutes int := case when new.dialed then ceil(coalesce(new.duration_secs, 0) / 60.0)::int else 0 end;
  more    int := minutes - coalesce(new.charged_minutes, 0);
begin
  if new.charged_minutes is distinct from minutes then
    update attempts set charged_minutes = minutes, counted_on = case when new.dialed then counted_on end where id = new.id;
    update subscriptions
    set
      minutes_left = minutes_left - least(minutes_left, greatest(more, 0)) + greatest(0, -more - overage_minutes),
      overage_minutes = greatest(0, overage_minutes + more - case when more > 0 then least(minutes_left, more) else 0 end),
      day_dials = day_dials - case when not new.dialed and new.counted_on = day then 1 else 0 end
    where user_id = new.user_id;
    if new.spent_on is not null and more <> 0 then
      insert into user_days as d (user_id, day, minutes, cost)
      values (new.user_id, new.spent_on, more, more * coalesce(new.minute_price, 0))
      on conflict (user_id, day) do update set minutes = d.minutes + excluded.minutes, cost = d.cost + excluded.cost;
    end if;
  end if;
  if old.ended_at is null then
    perform wake_user(new.user_id);
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.attempts_settle_minutes() IS 'Takes the minutes of an ended attempt, gives back its day where it was no dial, and wakes what waited for them.';

CREATE FUNCTION public.attempts_take_back_dial() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if new.dialed then
    -- It rang after all.
    insert into dials (user_id, dialed_at, call_id, phone) values (new.user_id, new.claimed_at, new.call_id, new.phone);
  else
    delete from dials where user_id = new.user_id and phone = new.phone and dialed_at = new.claimed_at and call_id = new.call_id;
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.attempts_take_back_dial() IS 'An attempt that ended without a dial leaves the ledger.';

CREATE FUNCTION public.bring_back(phones text[]) RETURNS integer
    LANGUAGE plpgsql
    AS $$
declare
  lanes   uuid[];
  dues    timestamptz[];
  urgents boolean[];
begin
  select array_agg(u.lane_id), array_agg(u.due_at), array_agg(u.rank < 2) into lanes, dues, urgents from unpark_calls(phones) u;
  if lanes is not null then
    perform wake_lanes(lanes, dues, urgents);
  end if;
  return coalesce(cardinality(lanes), 0);
end
$$;

CREATE FUNCTION public.calls_count_later() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if old.state = 'waiting' and old.due_at > clock() then
    insert into later_deltas (lane_id, due_at, reason, n) values (old.lane_id, old.due_at, case when old.capped_until = old.due_at then 'FREQUENCY_CAP' else later_reason(old.rank) end, -1);
  end if;
  if new.state = 'waiting' and new.due_at > clock() then
    insert into later_deltas (lane_id, due_at, reason, n) values (new.lane_id, new.due_at, case when new.capped_until = new.due_at then 'FREQUENCY_CAP' else later_reason(new.rank) end, 1);
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.calls_count_later() IS 'A call that enters or leaves at about its time may be counted or not: that time is past for every reader who sees it enter or leave.';

CREATE FUNCTION public.calls_tell_endpoints() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if not exists (select from webhook_endpoints where disabled_at is null) then
    return null;
  end if;
  perform tell_endpoints(n.user_id, n.id, v.event, jsonb_strip_nulls(jsonb_build_object(
    'callId', n.id, 'userId', n.user_id, 'campaignId', n.campaign_id, 'prospectId', n.prospect_id, 'externalId', n.external_id,
    'status', public_status(n.state), 'disposition', n.disposition, 'attempts', n.dials, 'scheduledAt', case when n.state = 'waiting' then n.due_at end,
    'metadata', case when pg_column_size(n.metadata) < 8000 then n.metadata end,
    'conversationId', a.id, 'duration', a.duration_secs, 'outcome', a.told
  )))
  from fresh n
  join stale o on o.id = n.id
  cross join lateral (
    select case
      when n.state in ('completed', 'failed', 'expired', 'canceled') and (o.state <> n.state or o.disposition is distinct from n.disposition)
        then 'call.' || n.state::text
      when n.state = 'waiting' and n.disposition = 'CALLBACK_REQUESTED' and o.state = 'live' and n.due_at <> o.due_at then 'call.rescheduled'
    end as event
  ) v
  left join lateral (select id, duration_secs, told from attempts where call_id = n.id and number = n.attempt_number) a on true
  where v.event is not null;
  return null;
end
$$;

COMMENT ON FUNCTION public.calls_tell_endpoints() IS 'Writes what became of calls into the outbox, in the statement that made it so.';

CREATE FUNCTION public.calls_tell_prospects() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
  p       prospects%rowtype;
  becomes text := case
    when new.disposition = 'DO_NOT_CALL' and new.state in ('completed', 'canceled') then 'DO_NOT_CALL'
    when new.disposition = 'APPOINTMENT_SET' and new.state = 'completed' then 'BOOKED'
    when new.disposition = 'NOT_INTERESTED' and new.state = 'completed' then 'NOT_INTERESTED'
    when new.disposition = 'CALLBACK_REQUESTED' and new.state in ('waiting', 'parked', 'completed') then 'RESCHEDULED'
    when new.state in ('completed', 'failed', 'expired', 'canceled') then 'FAILED'
  end;
  -- A promise that was made in this call, just now.
  promised boolean := new.disposition is not distinct from 'CALLBACK_REQUESTED' and (
    (new.state = 'waiting' and new.due_at <> old.due_at) or (new.state = 'completed' and old.state = 'live'));
begin
  select * into p from prospects where id = new.prospect_id and call_id = new.id for update;
  if p.id is null then
    return null;
  end if;
  update prospects
  set
    last_contacted_at = case when new.dials > old.dials then clock() else last_contacted_at end,
    reached_at = case
      when new.dials > 0 and new.disposition in ('APPOINTMENT_SET', 'CALLBACK_REQUESTED', 'NOT_INTERESTED', 'DO_NOT_CALL', 'COMPLETED')
      then coalesce(reached_at, clock()) else reached_at end
  where id = p.id;
  if p.status = 'DO_NOT_CALL' then
    return null;
  end if;
  -- A correction corrects what this call had said; a live call moves a wish that is open, and no decision.
  if becomes is distinct from 'DO_NOT_CALL' and p.status not in ('INITIAL', 'RESCHEDULED')
    and not (old.state in ('completed', 'failed') and p.disposition is not distinct from old.disposition) then
    return null;
  end if;
  -- Somebody wrote another time while the call was on: that promise is kept.
  if becomes in ('FAILED', 'RESCHEDULED') and not promised and p.status = 'RESCHEDULED' and p.rescheduled_for > clock() then
    perform follow_prospect(p);
    return null;
  end if;
  update prospects
  set
    disposition = coalesce(new.disposition, disposition), status = coalesce(becomes, status),
    rescheduled_for = case when promised then case when new.state = 'waiting' then new.due_at end else rescheduled_for end,
    reschedules = reschedules + promised::int, updated_at = clock()
  where id = p.id
  returning * into p;
  if new.state = 'waiting' and old.state = 'live' then
    perform follow_prospect(p);
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.calls_tell_prospects() IS 'A prospect follows its newest call: BOOKED, RESCHEDULED, NOT_INTERESTED, DO_NOT_CALL or FAILED.';

CREATE FUNCTION public.capped_until("user" uuid, number text, call uuid, rank smallint, at timestamp with time zone, per_day integer, gap_secs double precision) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
  select nullif(greatest(
    coalesce((select d.dialed_at + interval '24 hours' from dials d
      where per_day > 0 and d.phone = number and d.user_id = "user" and d.dialed_at > at - interval '24 hours'
      order by d.dialed_at desc offset greatest(per_day, 1) - 1 limit 1), '-infinity'),
    -- A call's own retries keep their delay, a callback the callee asked for keeps its time.
    coalesce((select d.dialed_at + make_interval(secs => gap_secs) from dials d
      where gap_secs > 0 and rank <> 0 and d.phone = number and d.user_id = "user"
        and d.dialed_at > at - make_interval(secs => gap_secs) and d.call_id <> call
      order by d.dialed_at desc limit 1), '-infinity')), '-infinity')
  where not exists (select from test_numbers t where t.phone = number)
$$;

COMMENT ON FUNCTION public.capped_until("user" uuid, number text, call uuid, rank smallint, at timestamp with time zone, per_day integer, gap_secs double precision) IS 'Until when a number has been dialed often enough, by the ledger; null: it may be dialed.';

CREATE FUNCTION public.clock() RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select coalesce(nullif(current_setting('outdial.now', true), '')::timestamptz, statement_timestamp()) $$;

COMMENT ON FUNCTION public.clock() IS 'The time every decision is made by: statement_timestamp(), unless the session sets outdial.now.';

CREATE TABLE public.provider_states (
    provider text NOT NULL,
    hold_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    counted_since timestamp with time zone DEFAULT public.clock() NOT NULL,
    ceiling_at timestamp with time zone,
    ceiling_until timestamp with time zone,
    ceiling integer,
    openings integer DEFAULT 0 NOT NULL,
    answered integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    half_open boolean DEFAULT false NOT NULL,
    reason text,
    CONSTRAINT provider_states_ceiling_range CHECK (((ceiling >= 1) AND (ceiling_until > ceiling_at))),
    CONSTRAINT provider_states_ceiling_whole CHECK ((((ceiling IS NULL) = (ceiling_at IS NULL)) AND ((ceiling IS NULL) = (ceiling_until IS NULL)))),
    CONSTRAINT provider_states_reason_known CHECK ((reason = ANY (ARRAY['PROVIDER_CAPACITY'::text, 'BREAKER_OPEN'::text])))
)
WITH (fillfactor='50');

COMMENT ON TABLE public.provider_states IS 'What all processes know of a provider: no claim until hold_until, the circuit breaker, and how many calls it takes at once.';

COMMENT ON COLUMN public.provider_states.ceiling IS 'Live calls it had when it last said it is full. The limit in force rises from there back to the global one by ceiling_until.';

COMMENT ON COLUMN public.provider_states.openings IS 'How often the breaker opened without an answer in between; the hold doubles with each.';

COMMENT ON COLUMN public.provider_states.answered IS 'Dials answered, in whatever sense, since counted_since; failed: those that were not.';

COMMENT ON COLUMN public.provider_states.half_open IS 'The breaker has opened: once hold_until is past one dial at a time is let through, until one is answered.';

COMMENT ON COLUMN public.provider_states.reason IS 'Why hold_until was set last: it said it is full, or the breaker opened.';

CREATE FUNCTION public.ceiling_of(p public.provider_states, global_limit integer) RETURNS integer
    LANGUAGE sql STABLE
    AS $$
  select case when p.ceiling < global_limit and p.ceiling_until > clock() then
    p.ceiling + floor((global_limit - p.ceiling) * extract(epoch from clock() - p.ceiling_at) / extract(epoch from p.ceiling_until - p.ceiling_at))::int
  end
$$;

COMMENT ON FUNCTION public.ceiling_of(p public.provider_states, global_limit integer) IS 'The learned limit of a provider: where it last refused, rising evenly to the global limit.';

CREATE FUNCTION public.claim_calls(want integer, global_limit integer, instance uuid, provider_name text, dial_guard_secs double precision, attempt_ids uuid[], lanes_max integer, lease_secs double precision, rate double precision, burst double precision, dials_per_day integer, gap_secs double precision, now_is timestamp with time zone) RETURNS TABLE(at timestamp with time zone, room integer, live bigint, held_until timestamp with time zone, probing boolean, next_at timestamp with time zone, lanes uuid[], users uuid[], obstructed boolean, attempt_id uuid, call_id uuid, attempt_number integer, dials smallint, dials_max smallint, priority smallint, rank smallint, retry_delay_secs integer, phone text, script_id text, metadata jsonb, variables jsonb, due_at timestamp with time zone, reserved_minutes integer, prospect_id uuid, agent jsonb, retry_rules jsonb)
    LANGUAGE plpgsql
    AS $_$
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
share as materialized (
  select ceil(most::numeric
    / greatest(1, (select count(*) from (select user_id from user_live union select user_id from free) u)))::int as each
),
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
$_$;

CREATE FUNCTION public.database_identity() RETURNS TABLE(system_identifier text, timeline integer, database_oid oid)
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return query
  select (select s.system_identifier::text from pg_control_system() s), (select c.timeline_id from pg_control_checkpoint() c),
    (select d.oid from pg_database d where d.datname = current_database());
exception when insufficient_privilege then
  return query select null::text, null::int, (select d.oid from pg_database d where d.datname = current_database());
end
$$;

COMMENT ON FUNCTION public.database_identity() IS 'Which server, timeline and database this is.';

CREATE FUNCTION public.endpoints_tell_endpoints() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  perform tell_endpoints(new.user_id, null, 'endpoint.disabled', jsonb_strip_nulls(jsonb_build_object(
    'endpointId', new.id, 'userId', new.user_id, 'url', new.url, 'reason', new.disabled_reason,
    'failingSince', to_char(new.failing_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'lastError', new.last_error)));
  return null;
end
$$;

COMMENT ON FUNCTION public.endpoints_tell_endpoints() IS 'Writes into the outbox that an endpoint was disabled, for the other endpoints of its user.';

CREATE FUNCTION public.enqueue(ids uuid[], user_ids uuid[], lane_ids uuid[], campaign_ids uuid[], ranks smallint[], priorities smallint[], due_ats timestamp with time zone[], expires_ats timestamp with time zone[], phones text[], script_ids text[], metadata jsonb[], variables jsonb[], external_ids text[], time_zones text[], ignore_windows boolean[], dials_maxes smallint[], rejects boolean[], prospect_ids uuid[]) RETURNS TABLE(nth bigint, suppressed boolean, twin_id uuid, created_at timestamp with time zone, due_at timestamp with time zone)
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
declare
  givens text[] := phones;
begin
  if array_to_string(phones, ' ') like '%+549%' then
    phones := array(select identity_of(p.phone) from unnest(phones) with ordinality as p(phone, nth) order by p.nth);
  end if;
  -- A statement of its own, before the one that reads: that one sees what was committed by then.
  perform admission_lock(true);
  -- Two creators that each refuse duplicates must not both see none. Sorted, so that they never wait for each other.
  if true = any ($17) then
    perform pg_advisory_xact_lock(7002, hashtext(phone))
    from (select distinct p.phone from unnest($9, $17) as p(phone, reject) where p.reject order by p.phone) numbers;
  end if;
  -- Whom a person has deleted, decided about or renumbered meanwhile is not called.
  if array_remove($18, null) <> '{}' then
    perform from prospects p where p.id = any ($18) order by p.id for update;
  end if;
  return query
  with now as materialized (
    select clock() as at
  ),
  item as materialized (
    select
      i.*,
      exists (select from suppressions s
              where s.phone = i.phone and s.user_id in (i.user_id, '00000000-0000-7000-8000-000000000001')) as suppressed,
      case when i.reject then coalesce(
        (select c.id from calls c
         where c.phone = i.phone and c.user_id = i.user_id and c.state in ('waiting', 'parked', 'live') and c.id <> i.id
         order by c.id desc
         limit 1),
        nullif(first_value(i.id) over (partition by i.user_id, i.phone order by i.nth), i.id)
      ) end as twin_id
    from unnest(
      $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::smallint[], $6::smallint[], $7::timestamptz[], $8::timestamptz[],
      $9::text[], $10::text[], $11::jsonb[], $12::jsonb[], $13::text[], $14::text[], $15::bool[], $16::smallint[], $17::bool[],
      $18::uuid[]
    ) with ordinality as i(
      id, user_id, lane_id, campaign_id, rank, priority, due_at, expires_at,
      phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max, reject, prospect_id, nth
    )
  ),
  created as (
    insert into calls (
      id, user_id, lane_id, campaign_id, state, rank, priority, due_at, created_at, updated_at, expires_at,
      phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max, prospect_id, given
    )
    select
      i.id, i.user_id, i.lane_id, i.campaign_id,
      case when coalesce(i.due_at, n.at) <= n.at
             and exists (select from attempts a where a.phone = i.phone and a.ended_at is null)
           then 'parked'::call_state else 'waiting' end,
      i.rank, i.priority, coalesce(i.due_at, n.at), n.at, n.at, i.expires_at,
      i.phone, i.script_id, i.metadata, i.variables, i.external_id, i.time_zone, i.ignore_window, i.dials_max, i.prospect_id, nullif(givens[i.nth], i.phone)
    from item i
    cross join now n
    where not i.suppressed and i.twin_id is null
      and (i.prospect_id is null or exists (
        select from prospects p
        where p.id = i.prospect_id and identity_of(p.phone) = i.phone and p.status in ('INITIAL', 'RESCHEDULED') and p.deleted_at is null))
    order by i.nth
    on conflict do nothing
    returning id, user_id, lane_id, campaign_id, prospect_id, state, rank, due_at, created_at
  ),
  chosen as (
    update prospects p
    set call_id = c.id, updated_at = c.created_at
    from created c
    where p.id = any (array(select prospect_id from created where prospect_id is not null)) and p.id = c.prospect_id
  ),
  tallied as (
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    select lane_id, user_id, campaign_id, 'PENDING', count(*) from created group by lane_id, user_id, campaign_id
  ),
  -- Lanes that sleep past a call deserve a look at its time; those that sleep for a reason (blocked_on) stay asleep.
  due as materialized (
    select lane_id, min(due_at) as next_at, coalesce(min(due_at) filter (where rank < 2), 'infinity') as urgent_at
    from created
    where state = 'waiting'
    group by lane_id
  ),
  woken as (
    update lanes l
    set next_at = least(l.next_at, d.next_at), urgent_at = least(l.urgent_at, d.urgent_at)
    from due d
    where l.id = any (array(select lane_id from due)) and l.id = d.lane_id and l.blocked_on is null
      and (l.next_at > d.next_at or l.urgent_at > d.urgent_at)
    returning l.user_id, l.next_at
  ),
  turn as materialized (
    select user_id, min(next_at) as next_at from woken group by user_id
  ),
  turned as (
    update user_turns t
    set next_at = u.next_at
    from turn u
    where t.user_id = any (array(select user_id from turn)) and t.user_id = u.user_id
      and t.blocked_on is null and t.next_at > u.next_at
  )
  select i.nth, i.suppressed, i.twin_id, c.created_at, c.due_at
  from item i
  left join created c on c.id = i.id
  order by i.nth;
end
$_$;

COMMENT ON FUNCTION public.enqueue(ids uuid[], user_ids uuid[], lane_ids uuid[], campaign_ids uuid[], ranks smallint[], priorities smallint[], due_ats timestamp with time zone[], expires_ats timestamp with time zone[], phones text[], script_ids text[], metadata jsonb[], variables jsonb[], external_ids text[], time_zones text[], ignore_windows boolean[], dials_maxes smallint[], rejects boolean[], prospect_ids uuid[]) IS 'Puts calls into their lanes, a verdict each in their order: created_at and due_at of one that was created, suppressed for one on a do-not-call list, twin_id when a second call was refused, none of them when its id or external id exists. A null due_at is now. A call that is due for a busy number is parked at once.';

CREATE FUNCTION public.is_computable(at timestamp with time zone) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select at >= '1900-01-01 00:00:00+00'::timestamptz and at < '10000-01-01 00:00:00+00'::timestamptz $$;

COMMENT ON FUNCTION public.is_computable(at timestamp with time zone) IS 'A time that every program can compute with: neither infinite nor beyond the years 1900 to 9999.';

CREATE FUNCTION public.json_is_bounded(value jsonb, wanted text DEFAULT 'object'::text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
  select jsonb_typeof(value) = wanted
    and octet_length(value::text) <= case wanted when 'object' then 65536 else 262144 end
    and (octet_length(value::text) < 64
      or not jsonb_path_exists(value, '$.**{32 to last} ? (@.type() == "object" || @.type() == "array")'))
$_$;

COMMENT ON FUNCTION public.json_is_bounded(value jsonb, wanted text) IS 'Whether JSON from outside can be kept: an object (or array), of bounded length and depth.';

CREATE TABLE public.prospects (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    call_id uuid,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    deleted_at timestamp with time zone,
    last_contacted_at timestamp with time zone,
    reached_at timestamp with time zone,
    rescheduled_for timestamp with time zone,
    reschedules integer DEFAULT 0 NOT NULL,
    name text,
    phone text NOT NULL,
    status text DEFAULT 'INITIAL'::text NOT NULL,
    refused_at timestamp with time zone,
    disposition text,
    time_zone text,
    external_id text,
    variables jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT prospects_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT prospects_deleted_at_computable CHECK (public.is_computable(deleted_at)),
    CONSTRAINT prospects_external_id_length CHECK ((char_length(external_id) <= 255)),
    CONSTRAINT prospects_last_contacted_at_computable CHECK (public.is_computable(last_contacted_at)),
    CONSTRAINT prospects_name_length CHECK ((char_length(name) <= 255)),
    CONSTRAINT prospects_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text)),
    CONSTRAINT prospects_reached_at_computable CHECK (public.is_computable(reached_at)),
    CONSTRAINT prospects_refused_at_computable CHECK (public.is_computable(refused_at)),
    CONSTRAINT prospects_rescheduled_for_computable CHECK (public.is_computable(rescheduled_for)),
    CONSTRAINT prospects_reschedules_not_negative CHECK ((reschedules >= 0)),
    CONSTRAINT prospects_status_known CHECK ((status = ANY (ARRAY['INITIAL'::text, 'RESCHEDULED'::text, 'BOOKED'::text, 'NOT_INTERESTED'::text, 'DO_NOT_CALL'::text, 'FAILED'::text]))),
    CONSTRAINT prospects_time_zone_length CHECK ((char_length(time_zone) <= 255)),
    CONSTRAINT prospects_updated_at_computable CHECK (public.is_computable(updated_at)),
    CONSTRAINT prospects_variables_fit_a_call CHECK ((octet_length((variables)::text) <= 60000)),
    CONSTRAINT prospects_variables_readable CHECK (public.json_is_bounded(variables))
)
WITH (fillfactor='70');

COMMENT ON TABLE public.prospects IS 'People a user wants called. SCHEDULED and IN_CALL are seen in ops.prospects: they follow from the open call.';

COMMENT ON COLUMN public.prospects.call_id IS 'The newest call to this person.';

COMMENT ON COLUMN public.prospects.reached_at IS 'Somebody was spoken to: from then on the follow-up script is used.';

COMMENT ON COLUMN public.prospects.rescheduled_for IS 'A promised time. The statement that writes it puts the call into the queue.';

COMMENT ON COLUMN public.prospects.refused_at IS 'The planner could not plan this one (a variable is missing, hours never meet): it comes after the others until it changes.';

COMMENT ON COLUMN public.prospects.disposition IS 'How the newest call ended; null when a person has said since what is so.';

CREATE FUNCTION public.follow_prospect(p public.prospects) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  c calls%rowtype;
  promised boolean := p.status = 'RESCHEDULED' and p.rescheduled_for is not null;
  verdict record;
begin
  select * into c from calls where prospect_id = p.id and state in ('waiting', 'parked', 'live') for update;
  if c.state = 'live' then
    -- Its end looks here again.
    return;
  end if;
  if c.id is null then
    if promised then
      select * into verdict from enqueue(
        array[uuid_v7()], array[p.user_id], array[unsorted_lane(p.user_id)], array[null]::uuid[], array[0]::smallint[],
        array[3]::smallint[], array[p.rescheduled_for], array[null]::timestamptz[], array[p.phone], array['prospect'],
        array[jsonb_build_object('prospectId', p.id)], array[prospect_variables(p)], array[null]::text[], array[p.time_zone], array[false],
        array[coalesce((select max_attempts from user_settings where user_id = p.user_id), 3)]::smallint[], array[false], array[p.id]);
      if verdict.suppressed then
        update prospects set status = 'DO_NOT_CALL', rescheduled_for = null, disposition = 'DO_NOT_CALL', updated_at = clock() where id = p.id;
      end if;
    end if;
    return;
  end if;
  if (coalesce(c.given, c.phone), c.time_zone, c.variables) is distinct from (p.phone, p.time_zone, prospect_variables(p)) then
    -- Where the number rings is found out anew.
    update calls set state = 'waiting', phone = identity_of(p.phone), given = nullif(p.phone, identity_of(p.phone)), time_zone = p.time_zone, variables = prospect_variables(p),
      lane_id = unsorted_lane(p.user_id), updated_at = clock()
    where id = c.id;
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    values (c.lane_id, c.user_id, null, 'PENDING', -1), (unsorted_lane(p.user_id), c.user_id, null, 'PENDING', 1);
  end if;
  if promised and (c.due_at <> p.rescheduled_for or c.rank <> 0) then
    update calls set state = 'waiting', due_at = p.rescheduled_for, rank = 0, updated_at = clock() where id = c.id;
    update lanes set next_at = least(next_at, p.rescheduled_for), urgent_at = least(urgent_at, p.rescheduled_for)
    where id = (select lane_id from calls where id = c.id) and blocked_on is null;
    update user_turns set next_at = least(next_at, p.rescheduled_for) where user_id = p.user_id and blocked_on is null;
  end if;
end
$$;

COMMENT ON FUNCTION public.follow_prospect(p public.prospects) IS 'Enqueues a promised time, moves the waiting call to it, and keeps its number and variables those of the prospect.';

CREATE FUNCTION public.free_slots(user_ids uuid[], campaign_ids uuid[]) RETURNS void
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
begin
with woken as (
  update lanes
  set next_at = clock(), urgent_at = urgent_of(id), blocked_on = null
  where user_id = any ($1)
    and (blocked_on = 'user' or (blocked_on = 'campaign' and campaign_id = any ($2)))
  returning user_id
)
update user_turns
set next_at = clock(), blocked_on = null
where user_id = any ($1) and (blocked_on = 'user' or (blocked_on is null and user_id in (select user_id from woken)));
end
$_$;

CREATE FUNCTION public.hold_provider(refused uuid[], secs double precision, recover_secs double precision, global_limit integer) RETURNS void
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
begin
with moved as materialized (
  select provider, accepted_at, ended_at from attempts
  where id >= ops.uuid_floor(clock() - interval '2 minutes') and accepted_at > clock() - interval '1 minute'
)
insert into provider_states as p (provider, hold_until, reason, ceiling, ceiling_at, ceiling_until)
select
  r.provider, clock() + make_interval(secs => $2), 'PROVIDER_CAPACITY',
  greatest(
    (select count(*) from attempts where ended_at is null and state in ('accepted', 'unknown')),
    -- The most at once of those accepted within the minute.
    (select max(n) from (
      select sum(d) over (order by at, d) as n
      from (
        select accepted_at as at, 1 as d from moved where provider = r.provider
        union all
        select ended_at, -1 from moved where provider = r.provider and ended_at is not null
      ) steps
    ) at_once),
    ceil(coalesce((select ceiling_of(s, $4::int) from provider_states s where s.provider = r.provider), $4::int) / power(2, least(r.n, 30))),
    1)::int,
  clock(), clock() + make_interval(secs => $3)
from (select provider, count(*)::int as n from attempts where id = any ($1::uuid[]) group by provider) r
on conflict (provider) do update
set
  reason = case when p.hold_until > excluded.hold_until then p.reason else excluded.reason end,
  hold_until = greatest(p.hold_until, excluded.hold_until),
  ceiling = excluded.ceiling, ceiling_at = excluded.ceiling_at, ceiling_until = excluded.ceiling_until;
end
$_$;

CREATE FUNCTION public.id_of_user("user" text) RETURNS uuid
    LANGUAGE sql STABLE
    AS $$ select id from users where external_id = "user" or id::text = "user" $$;

COMMENT ON FUNCTION public.id_of_user("user" text) IS 'The user with this id, or this id of the platform.';

CREATE FUNCTION public.identity_of(phone text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$ select case when phone ~ '^\+549[0-9]{10}$' then '+54' || substr(phone, 5) else phone end $_$;

COMMENT ON FUNCTION public.identity_of(phone text) IS 'By what two numbers in canonical form are the same: Argentine mobiles are dialed with a 9 from abroad, which lists leave out. The rule of domain::phone.';

CREATE FUNCTION public.is_service() RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select coalesce(current_setting('outdial.service', true), '') = 'on'
    -- Anybody can say so; who may write attempts can be believed.
    and has_table_privilege(session_user, 'public.attempts'::regclass, 'insert')
$$;

COMMENT ON FUNCTION public.is_service() IS 'Whether this is a connection of the service, which holds the admission lock when it changes what steers calls.';

CREATE FUNCTION public.json_fault(value jsonb, wanted text DEFAULT 'object'::text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
  select case
    when jsonb_typeof(value) <> wanted then 'is no ' || wanted
    when octet_length(value::text) > case wanted when 'object' then 65536 else 262144 end then 'is too large'
    when not json_is_bounded(value, wanted) then 'is nested more than 32 deep'
    when jsonb_path_exists(value, 'strict $.** ? (@.type() == "number" && (@ >= 1e64 || @ <= -1e64))') then 'holds a number of more than 64 digits'
  end
$_$;

COMMENT ON FUNCTION public.json_fault(value jsonb, wanted text) IS 'Why JSON is refused at the door for plain SQL: not an object (or array), too large, too deep, a number too large; null: it is taken. The rule of domain::raw_json.';

CREATE FUNCTION public.known_user("user" text) RETURNS uuid
    LANGUAGE plpgsql STABLE
    AS $$
declare
  id uuid := id_of_user("user");
begin
  if id is null then
    raise exception 'userId: there is no user %', "user" using errcode = '23503';
  end if;
  return id;
end
$$;

COMMENT ON FUNCTION public.known_user("user" text) IS 'id_of_user, or an error that names the field.';

CREATE FUNCTION public.lanes_reopen("user" uuid) RETURNS void
    LANGUAGE sql
    AS $$
  update lanes set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
  where ("user" is null or user_id = "user") and country <> '?' and id <> '00000000-0000-7000-8000-000000000001'
$$;

COMMENT ON FUNCTION public.lanes_reopen("user" uuid) IS 'Closes the lanes of a user (null: of all) until their windows are written anew: the rules have changed. Needs the admission lock.';

CREATE FUNCTION public.later_from(lane uuid, at timestamp with time zone) RETURNS TABLE(reason text, n numeric)
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  -- "offset 0" keeps each part a look-up of its own.
  select part.reason, sum(part.n)
  from (select span_start_from(at, 1) as whole_at offset 0) e
  cross join lateral (
    select t.reason, t.n
    from later_spans s
    cross join lateral (
      select span_start_from(at, s.secs) as first, span_start_from(at, s.within_secs) as last offset 0
    ) edge
    cross join lateral (
      select t.reason, t.n
      from later_tallies t
      where t.lane_id = lane and t.span_secs = s.secs and t.starts_at >= edge.first and t.starts_at < edge.last
      offset 0
    ) t
    union all
    select d.reason, d.n from later_deltas d where d.lane_id = lane and d.due_at >= e.whole_at
    union all
    -- What is left of the second it falls in.
    select later_reason(r.rank::smallint), c.n
    from generate_series(0, 4) as r(rank)
    cross join lateral (
      select count(*) as n from calls c
      where c.lane_id = lane and c.state = 'waiting' and c.rank = r.rank::smallint and c.due_at >= at and c.due_at < e.whole_at
    ) c
    union all
    select v.reason, v.n
    from calls c
    cross join lateral (values ('FREQUENCY_CAP', 1), (later_reason(c.rank), -1)) as v(reason, n)
    where c.lane_id = lane and c.capped_until = c.due_at and c.due_at >= at and c.due_at < e.whole_at and c.state = 'waiting'
  ) part
  group by part.reason
  having sum(part.n) <> 0
$$;

COMMENT ON FUNCTION public.later_from(lane uuid, at timestamp with time zone) IS 'How many waiting calls of a campaign''s lane fall due at a time to come or after it, by reason.';

CREATE FUNCTION public.later_reason(rank smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select case rank when 2 then 'RETRY_LATER' else 'SCHEDULED_LATER' end $$;

COMMENT ON FUNCTION public.later_reason(rank smallint) IS 'What a call of this rank waits for while its time is to come: a retry''s delay, or the time it was asked for.';

CREATE FUNCTION public.left_of_day("user" uuid, minutes_max integer, cost_max numeric, reserve integer) RETURNS TABLE(minutes integer, budget numeric, spent_on date, reason text)
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
declare
  live record;
  day  user_days%rowtype;
begin
  spent_on := (clock() at time zone 'UTC')::date;
  select * into day from user_days d where d.user_id = "user" and d.day = left_of_day.spent_on;
  select coalesce(sum(a.reserved_minutes), 0)::integer as minutes, coalesce(sum(a.reserved_minutes * a.minute_price), 0) as cost into live
  from attempts a
  where a.user_id = "user" and a.ended_at is null and a.reserved_minutes is not null;
  minutes := minutes_max - coalesce(day.minutes, 0) - live.minutes;
  budget := cost_max - coalesce(day.cost, 0) - live.cost;
  reason := case
    when minutes <= 0 then 'DAILY_MINUTES'
    -- Not even the cheapest call.
    when budget <= 0 or budget < reserve * (select min(per_minute) from rates) then 'DAILY_COST'
  end;
  return next;
end
$$;

COMMENT ON FUNCTION public.left_of_day("user" uuid, minutes_max integer, cost_max numeric, reserve integer) IS 'What a user with daily caps may still talk and spend today (UTC). No part of the view: the claim would pay for it whoever it looks at.';

CREATE FUNCTION public.let_prospects_go("user" uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  unsorted uuid;
begin
  perform wake_user("user");
  if exists (select from subscriptions where user_id = "user")
    or not exists (select from calls where user_id = "user" and prospect_id is not null and state in ('waiting', 'parked')) then
    return;
  end if;
  unsorted := unsorted_lane("user");
  with moved as (
    update calls n
    set lane_id = unsorted, state = 'waiting', updated_at = clock()
    from calls c
    where n.user_id = "user" and n.prospect_id is not null and n.state in ('waiting', 'parked') and n.lane_id <> unsorted
      and c.id = n.id
    returning c.lane_id as was
  )
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select was, "user", null::uuid, 'PENDING', -count(*) from moved group by was
  union all
  select unsorted, "user", null, 'PENDING', count(*) from moved having count(*) > 0;
end
$$;

COMMENT ON FUNCTION public.let_prospects_go("user" uuid) IS 'Without a subscription the calls of a user''s prospects wait unsorted. Needs the admission lock, exclusive.';

CREATE FUNCTION public.note_change("user" uuid, what text, prospect uuid DEFAULT NULL::uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
  insert into sql_changes (user_id, what, prospect_id) values ("user", what, prospect);
  perform pg_notify('outdial', 'sql');
end
$$;

COMMENT ON FUNCTION public.note_change("user" uuid, what text, prospect uuid) IS 'Leaves a change by plain SQL for the service, and rings.';

CREATE FUNCTION public.plans_wake() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if is_service() then
    perform wake_user(s.user_id) from subscriptions s where s.plan_id = new.id;
  else
    perform note_change(s.user_id, 'WAKE') from subscriptions s where s.plan_id = new.id;
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.plans_wake() IS 'A plan that changes is looked at anew by everybody who subscribes to it.';

CREATE FUNCTION public.platform_write_plan() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'ops', 'pg_temp'
    AS $$
begin
  if is_service() then perform admission_lock(false); end if;
  if tg_op = 'INSERT' then
    insert into plans (id, external_id, name, price, minutes, duration_days, per_day)
    values (uuid_v7(), new.id, new.name, coalesce(new.price, 0), new.minutes, new.duration, new.perday);
  elsif tg_op = 'UPDATE' then
    update plans set name = new.name, price = new.price, minutes = new.minutes, duration_days = new.duration, per_day = new.perday, updated_at = clock()
    where external_id = old.id or id::text = old.id;
  else
    delete from plans where external_id = old.id or id::text = old.id;
    return old;
  end if;
  return new;
end
$$;

CREATE FUNCTION public.platform_write_prospect() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'ops', 'pg_temp'
    AS $$
declare
  owner uuid;
  -- What follows from the open call is not a wish.
  wish  text := case when new.status in ('SCHEDULED', 'IN_CALL') then null else new.status end;
begin
  if is_service() then perform admission_lock(false); end if;
  if tg_op = 'DELETE' then
    update prospects set deleted_at = clock(), external_id = null where deleted_at is null and user_id = known_user(old.userid) and (external_id = old.id or id::text = old.id);
    return old;
  end if;
  owner := known_user(new.userid);
  if tg_op = 'INSERT' then
    insert into prospects (id, user_id, external_id, name, phone, status, last_contacted_at, rescheduled_for)
    values (uuid_v7(), owner, new.id, new.name, regexp_replace(new.phone, '[[:space:]().-]', '', 'g'), coalesce(wish, 'INITIAL'),
            new.lastcontacted, new.rescheduledfor);
  else
    update prospects
    set name = new.name, phone = regexp_replace(new.phone, '[[:space:]().-]', '', 'g'), status = coalesce(wish, status),
      last_contacted_at = new.lastcontacted, rescheduled_for = new.rescheduledfor, updated_at = clock()
    where deleted_at is null and user_id = owner and (external_id = old.id or id::text = old.id);
  end if;
  return new;
end
$$;

CREATE FUNCTION public.platform_write_setting() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'ops', 'pg_temp'
    AS $$
declare
  owner uuid;
begin
  if tg_op = 'DELETE' then
    if tg_table_name = 'Setting' then
      delete from user_settings where user_id = user_of_setting(old.id);
    end if;
    return old;
  end if;
  if tg_table_name = 'Setting' then
    insert into user_settings as s (user_id, external_id, theme, max_attempts) values (known_user(new.userid), new.id, new.theme, 1)
    on conflict (user_id) do update set external_id = excluded.external_id, theme = excluded.theme, updated_at = clock();
    return new;
  end if;
  owner := user_of_setting(new.settingid);
  if tg_table_name = 'AdvancedSetting' then
    if not exists (select from time_zones where name = new.timezone) then
      raise exception 'timeZone: there is no time zone %', new.timezone using errcode = '22023';
    end if;
    if is_service() then perform admission_lock(false); end if;
    update users set time_zone = new.timezone, updated_at = clock() where id = owner;
    update user_settings set hours_external_id = new.id, opens = new.startat::time, closes = new.endat::time, updated_at = clock() where user_id = owner;
  elsif tg_table_name = 'ScriptSetting' then
    update user_settings set script_external_id = new.id, script_initial = new.initial, script_follow_up = new.followup, updated_at = clock() where user_id = owner;
  else
    update user_settings set agent_external_id = new.id, language = new.language, voice = new.voice, first_message = new.firstmessage, updated_at = clock() where user_id = owner;
  end if;
  return new;
end
$$;

CREATE FUNCTION public.platform_write_subscription() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'ops', 'pg_temp'
    AS $$
declare
  plan plans%rowtype;
begin
  if is_service() then perform admission_lock(false); end if;
  if tg_op = 'DELETE' then
    delete from subscriptions where user_id = known_user(old.userid);
    return old;
  end if;
  select * into plan from plans where external_id = new.planid or id::text = new.planid;
  if plan.id is null then
    raise exception 'planId: there is no plan %', new.planid using errcode = '23503';
  end if;
  if tg_op = 'INSERT' then
    insert into subscriptions (user_id, plan_id, external_id, minutes_left, status, period_ends_at)
    values (known_user(new.userid), plan.id, new.id, coalesce(new.minutesleft, plan.minutes), coalesce(new.status, 'ACTIVE'),
            clock() + make_interval(days => plan.duration_days));
  else
    update subscriptions set plan_id = plan.id, minutes_left = new.minutesleft, status = new.status, updated_at = clock()
    where user_id = known_user(old.userid);
  end if;
  return new;
end
$$;

CREATE FUNCTION public.platform_write_user() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'ops', 'pg_temp'
    AS $$
declare
  own uuid;
begin
  if tg_op = 'INSERT' then
    own := uuid_v7();
    insert into users (id, external_id, name, email, clerk_id, created_at, updated_at)
    values (own, new.id, coalesce(new.name, new.id), new.email, new.clerkid, coalesce(new.createdat, clock()), coalesce(new.updatedat, clock()));
    insert into planning (user_id) values (own) on conflict do nothing;
  elsif tg_op = 'UPDATE' then
    update users set name = new.name, email = new.email, clerk_id = new.clerkid, updated_at = clock() where id = known_user(old.id);
  else
    delete from users where id = known_user(old.id);
    return old;
  end if;
  return new;
end
$$;

CREATE FUNCTION public.price_of(phone text) RETURNS numeric
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select per_minute from rates
  where prefix = any (array(select substr(phone, 2, n) from generate_series(0, 15) n))
  order by length(prefix) desc
  limit 1
$$;

COMMENT ON FUNCTION public.price_of(phone text) IS 'What a minute to a number costs; null: the table says nothing.';

CREATE FUNCTION public.prospect_variables(p public.prospects) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$ select case when p.name is null then p.variables else jsonb_build_object('prospectName', p.name) || p.variables end $$;

COMMENT ON FUNCTION public.prospect_variables(p public.prospects) IS 'What scripts may name of a person.';

CREATE FUNCTION public.prospects_name_promises() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if new.status = 'INITIAL' and new.rescheduled_for is not null then
    if tg_op = 'UPDATE' and new.rescheduled_for is not distinct from old.rescheduled_for then
      new.rescheduled_for := null;
    else
      new.status := 'RESCHEDULED';
    end if;
  end if;
  return new;
end
$$;

COMMENT ON FUNCTION public.prospects_name_promises() IS 'INITIAL with a new time is RESCHEDULED; back to INITIAL, the old time is gone.';

CREATE FUNCTION public.prospects_steer_calls() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  -- Everybody who dials looks there: it holds at once, whoever wrote it.
  if new.status = 'DO_NOT_CALL' and new.deleted_at is null then
    insert into suppressions (phone, user_id, reason) values (identity_of(new.phone), new.user_id, 'prospect') on conflict do nothing;
  end if;
  if is_service() then
    perform steer_prospect(new);
  elsif tg_op = 'UPDATE' or new.status <> 'INITIAL' then
    perform note_change(new.user_id, 'PROSPECT', new.id);
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.prospects_steer_calls() IS 'What a person decided about a prospect reaches its call: at once, or, by plain SQL, at the next look of the service.';

CREATE FUNCTION public.public_status(state public.call_state) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case state
    when 'waiting' then 'PENDING' when 'parked' then 'PENDING' when 'live' then 'IN_PROGRESS'
    when 'completed' then 'COMPLETED' when 'failed' then 'FAILED' when 'expired' then 'EXPIRED' when 'canceled' then 'CANCELED'
  end
$$;

COMMENT ON FUNCTION public.public_status(state public.call_state) IS 'PENDING, IN_PROGRESS, COMPLETED, FAILED, EXPIRED or CANCELED.';

CREATE TABLE public.attempts (
    id uuid NOT NULL,
    call_id uuid NOT NULL,
    user_id uuid NOT NULL,
    lane_id uuid NOT NULL,
    campaign_id uuid,
    instance_id uuid NOT NULL,
    state public.attempt_state DEFAULT 'dialing'::public.attempt_state NOT NULL,
    number integer NOT NULL,
    revision integer DEFAULT 0 NOT NULL,
    duration_secs integer,
    weight smallint DEFAULT 0 NOT NULL,
    misses smallint DEFAULT 0 NOT NULL,
    dialed boolean DEFAULT false NOT NULL,
    billed boolean DEFAULT false NOT NULL,
    claimed_at timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    accepted_at timestamp with time zone,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    check_at timestamp with time zone NOT NULL,
    hang_up_at timestamp with time zone,
    record_at timestamp with time zone,
    phone text NOT NULL,
    provider text NOT NULL,
    provider_call_id text,
    carrier_call_id text,
    disposition text,
    hangup_cause text,
    told jsonb,
    transcript text,
    summary text,
    reserved_minutes integer,
    charged_minutes integer,
    counted_on date,
    spent_on date,
    minute_price numeric(12,6),
    CONSTRAINT attempts_charged_not_negative CHECK ((charged_minutes >= 0)),
    CONSTRAINT attempts_duration_not_negative CHECK ((duration_secs >= 0)),
    CONSTRAINT attempts_ended_at_iff_ended CHECK (((ended_at IS NOT NULL) = (state = 'ended'::public.attempt_state))),
    CONSTRAINT attempts_number_positive CHECK ((number > 0)),
    CONSTRAINT attempts_reserved_positive CHECK ((reserved_minutes > 0))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05');

COMMENT ON TABLE public.attempts IS 'One time we dialed for a call, also called conversation. Committed before the provider is asked; open rows are the slots.';

COMMENT ON COLUMN public.attempts.instance_id IS 'The process that dials it; its lease is in instances.';

COMMENT ON COLUMN public.attempts.revision IS 'Grows with every settled change; a decision names the revision it was made on.';

COMMENT ON COLUMN public.attempts.weight IS 'Strength of the evidence behind disposition: 0 none, 1 ours, 2 bare status, 3 carrier cause, 4 explicit outcome.';

COMMENT ON COLUMN public.attempts.misses IS 'Look-ups in a row that found nothing, each after the quiet time.';

COMMENT ON COLUMN public.attempts.dialed IS 'Whether it counts as a dial.';

COMMENT ON COLUMN public.attempts.billed IS 'duration_secs is what the provider bills, and stands.';

COMMENT ON COLUMN public.attempts.sent_at IS 'The latest moment at which the request may have left us, known only in doubt.';

COMMENT ON COLUMN public.attempts.check_at IS 'When the provider is asked about it next, should no word come before.';

COMMENT ON COLUMN public.attempts.hang_up_at IS 'When the provider is to be asked to hang up.';

COMMENT ON COLUMN public.attempts.record_at IS 'When the provider is asked for the record of the ended call (billed duration, transcript, summary); null: nothing is missing.';

COMMENT ON COLUMN public.attempts.carrier_call_id IS 'The carrier''s id of the leg to the phone, where it is another than the provider''s.';

COMMENT ON COLUMN public.attempts.hangup_cause IS 'The cause in the provider''s or carrier''s own words, "cause/SIP code" where both were given.';

COMMENT ON COLUMN public.attempts.told IS 'The explicit outcome as told, during the call or after.';

COMMENT ON COLUMN public.attempts.reserved_minutes IS 'Minutes of the subscription held for it while it is open, and the longest it may talk; null: no subscription.';

COMMENT ON COLUMN public.attempts.charged_minutes IS 'Minutes taken for it: its length in begun minutes.';

COMMENT ON COLUMN public.attempts.counted_on IS 'The day of the subscription it was counted in; null: in none, or it turned out to be no dial.';

COMMENT ON COLUMN public.attempts.spent_on IS 'The day (UTC) its minutes count for, where its user has a daily cap.';

COMMENT ON COLUMN public.attempts.minute_price IS 'What a minute of it costs, where its user has a cap of cost.';

CREATE TABLE public.installation (
    only_row boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    token_key bytea NOT NULL,
    reserve_minutes integer DEFAULT 10 NOT NULL,
    max_concurrent_calls integer DEFAULT 30 NOT NULL,
    provider text DEFAULT 'simulator'::text NOT NULL,
    dials_per_second double precision DEFAULT 0 NOT NULL,
    system_identifier text,
    timeline integer,
    database_oid oid,
    held_since timestamp with time zone,
    held_for text,
    hold_lifted_at timestamp with time zone,
    waiting_calls_max bigint DEFAULT 1000000 NOT NULL,
    upload_bytes_max bigint DEFAULT '2147483648'::bigint NOT NULL,
    kept_answer_bytes_max bigint DEFAULT 268435456 NOT NULL,
    obeys_hours boolean DEFAULT false NOT NULL,
    obeys_destinations boolean DEFAULT false NOT NULL,
    sorts_operator boolean DEFAULT false NOT NULL,
    countries text[],
    placed_by integer DEFAULT 0 NOT NULL,
    caps_day date,
    CONSTRAINT installation_held_for_known CHECK ((held_for = ANY (ARRAY['RESTORED_DATABASE'::text, 'LOST_COMMITS'::text]))),
    CONSTRAINT installation_hold_whole CHECK (((held_since IS NULL) = (held_for IS NULL))),
    CONSTRAINT installation_only_row CHECK (only_row)
);

COMMENT ON TABLE public.installation IS 'The one row every process of this installation shares.';

COMMENT ON COLUMN public.installation.token_key IS 'Key of the HMAC that makes the token in webhook URLs.';

COMMENT ON COLUMN public.installation.reserve_minutes IS 'Minutes reserved for a call of a metered user, as the newest process was told.';

COMMENT ON COLUMN public.installation.max_concurrent_calls IS 'The global limit in force, as the newest process was told it; for views. The claim is given it by the process.';

COMMENT ON COLUMN public.installation.provider IS 'The provider in force; for views.';

COMMENT ON COLUMN public.installation.dials_per_second IS 'The rate in force; for views.';

COMMENT ON COLUMN public.installation.system_identifier IS 'The server, its timeline and the database this installation dialed on last. Another one is a copy: it does not know what was dialed since.';

COMMENT ON COLUMN public.installation.held_since IS 'Nothing is dialed from then on, until a person lifts the hold (outdial reconcile).';

COMMENT ON COLUMN public.installation.hold_lifted_at IS 'A person has looked: what is missing of the attempts before then holds no more.';

COMMENT ON COLUMN public.installation.waiting_calls_max IS 'What each tenant may have, as the newest process was told; for views.';

COMMENT ON COLUMN public.installation.obeys_hours IS 'Single calls of users without hours of their own, the operator among them, keep to the legal hours.';

COMMENT ON COLUMN public.installation.obeys_destinations IS 'Calls keep to the countries and kinds of numbers their user may have called.';

COMMENT ON COLUMN public.installation.sorts_operator IS 'The operator''s single calls go into the lanes of their zones, like everybody''s.';

COMMENT ON COLUMN public.installation.countries IS 'Where users without a list of their own may call; null: anywhere.';

COMMENT ON COLUMN public.installation.placed_by IS 'By which edition of our rules what waits was put into its lanes (queue::windows::PLACED_BY).';

COMMENT ON COLUMN public.installation.caps_day IS 'The day (UTC) for which users with daily caps were woken.';

CREATE TABLE public.plans (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    price numeric(12,2) DEFAULT 0 NOT NULL,
    minutes integer NOT NULL,
    duration_days integer NOT NULL,
    per_day integer,
    name text NOT NULL,
    external_id text,
    CONSTRAINT plans_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT plans_duration_positive CHECK ((duration_days > 0)),
    CONSTRAINT plans_duration_range CHECK ((duration_days <= 3660)),
    CONSTRAINT plans_minutes_not_negative CHECK ((minutes >= 0)),
    CONSTRAINT plans_minutes_range CHECK ((minutes <= 100000000)),
    CONSTRAINT plans_per_day_positive CHECK ((per_day > 0)),
    CONSTRAINT plans_per_day_range CHECK ((per_day <= 1000000)),
    CONSTRAINT plans_price_is_a_number CHECK ((price <> 'NaN'::numeric)),
    CONSTRAINT plans_price_not_negative CHECK ((price >= (0)::numeric)),
    CONSTRAINT plans_updated_at_computable CHECK (public.is_computable(updated_at))
);

COMMENT ON TABLE public.plans IS 'What a subscription buys: minutes for a period of days, and dials a day.';

COMMENT ON COLUMN public.plans.per_day IS 'Dials a day on the user''s clock; null: any number.';

CREATE TABLE public.subscriptions (
    user_id uuid NOT NULL,
    plan_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    period_ends_at timestamp with time zone NOT NULL,
    day_ends_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    minutes_left integer NOT NULL,
    overage_minutes integer DEFAULT 0 NOT NULL,
    day_dials integer DEFAULT 0 NOT NULL,
    day date,
    status text DEFAULT 'ACTIVE'::text NOT NULL,
    external_id text,
    CONSTRAINT subscriptions_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT subscriptions_day_computable CHECK (((day >= '1900-01-01'::date) AND (day <= '9999-12-31'::date))),
    CONSTRAINT subscriptions_day_dials_not_negative CHECK ((day_dials >= 0)),
    CONSTRAINT subscriptions_day_ends_at_computable CHECK ((public.is_computable(day_ends_at) OR (day_ends_at = '-infinity'::timestamp with time zone))),
    CONSTRAINT subscriptions_minutes_not_negative CHECK ((minutes_left >= 0)),
    CONSTRAINT subscriptions_minutes_range CHECK ((minutes_left <= 100000000)),
    CONSTRAINT subscriptions_overage_not_negative CHECK ((overage_minutes >= 0)),
    CONSTRAINT subscriptions_overage_range CHECK ((overage_minutes <= 100000000)),
    CONSTRAINT subscriptions_period_ends_at_computable CHECK (public.is_computable(period_ends_at)),
    CONSTRAINT subscriptions_status_known CHECK ((status = ANY (ARRAY['ACTIVE'::text, 'PAUSED'::text, 'CANCELED'::text]))),
    CONSTRAINT subscriptions_updated_at_computable CHECK (public.is_computable(updated_at))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

COMMENT ON TABLE public.subscriptions IS 'The quota of a user who has one: every call of that user is held to it.';

COMMENT ON COLUMN public.subscriptions.minutes_left IS 'The settled balance; what live calls have reserved is on their attempts. Never below zero.';

COMMENT ON COLUMN public.subscriptions.overage_minutes IS 'Minutes talked beyond the balance, in this period.';

COMMENT ON COLUMN public.subscriptions.day IS 'The date on the user''s clock that day_dials counts; the scheduler turns it at day_ends_at. Past that: closed until it has.';

CREATE TABLE public.users (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    max_concurrent_calls integer,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    name text NOT NULL,
    external_id text,
    email text,
    time_zone text,
    clerk_id text,
    allowed_countries text[],
    allowed_destinations text[] DEFAULT '{}'::text[] NOT NULL,
    allowed_agents text[] DEFAULT '{}'::text[] NOT NULL,
    allowed_tools text[] DEFAULT '{hangUp,leaveVoicemail,playDtmfSounds}'::text[] NOT NULL,
    max_concurrent_calls_allowed integer,
    daily_minutes_max integer,
    daily_cost_max numeric(14,4),
    CONSTRAINT users_allowed_countries_are_codes CHECK ((array_to_string(allowed_countries, ' '::text, '-'::text) ~ '^([A-Z]{2}|\*)?( ([A-Z]{2}|\*))*$'::text)),
    CONSTRAINT users_allowed_destinations_known CHECK ((allowed_destinations <@ '{PREMIUM,SHARED_COST,SATELLITE,UNASSIGNED}'::text[])),
    CONSTRAINT users_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT users_daily_cost_max_range CHECK (((daily_cost_max >= (0)::numeric) AND (daily_cost_max <= (1000000000)::numeric))),
    CONSTRAINT users_daily_minutes_max_range CHECK (((daily_minutes_max >= 0) AND (daily_minutes_max <= 10000000))),
    CONSTRAINT users_max_concurrent_calls_allowed_range CHECK (((max_concurrent_calls_allowed >= 1) AND (max_concurrent_calls_allowed <= 100000))),
    CONSTRAINT users_max_concurrent_calls_are_allowed CHECK (((max_concurrent_calls_allowed IS NULL) OR ((max_concurrent_calls IS NOT NULL) AND (max_concurrent_calls <= max_concurrent_calls_allowed)))),
    CONSTRAINT users_max_concurrent_calls_positive CHECK ((max_concurrent_calls > 0)),
    CONSTRAINT users_updated_at_computable CHECK (public.is_computable(updated_at))
);

COMMENT ON TABLE public.users IS 'Tenants. Everything else belongs to one of them; calls of nobody in particular belong to the operator.';

COMMENT ON COLUMN public.users.max_concurrent_calls IS 'Live calls this user may have at once; null: only the global limit counts.';

COMMENT ON COLUMN public.users.external_id IS 'The id other systems know this user by.';

COMMENT ON COLUMN public.users.time_zone IS 'The zone that stands in for callees whose own is unknown, where the zone policy allows it.';

COMMENT ON COLUMN public.users.clerk_id IS 'The id at the platform''s sign-in service.';

COMMENT ON COLUMN public.users.allowed_countries IS 'Countries (ISO 3166) this user may have called, * for any; null: those of the installation. An admin decides.';

COMMENT ON COLUMN public.users.allowed_destinations IS 'Kinds of numbers beside the ordinary that this user may have called. An admin decides.';

COMMENT ON COLUMN public.users.allowed_agents IS 'Ids of agents kept at the provider that this user''s scripts may name, * for any. An admin decides.';

COMMENT ON COLUMN public.users.allowed_tools IS 'Names and ids of tools kept at the provider that this user''s scripts may name, * for any. An admin decides.';

COMMENT ON COLUMN public.users.max_concurrent_calls_allowed IS 'The most live calls this user may give itself (max_concurrent_calls); null: only the global limit. An admin decides.';

COMMENT ON COLUMN public.users.daily_minutes_max IS 'Minutes this user''s calls may last in a day (UTC); null: any. An admin decides.';

COMMENT ON COLUMN public.users.daily_cost_max IS 'What this user''s calls may cost in a day (UTC), by the table rates; null: anything. An admin decides.';

CREATE VIEW public.quotas AS
 SELECT q.user_id,
    q.day,
    q.day_ends_at,
    q.reserve,
    q.minutes,
    q.reason,
        CASE
            WHEN (q.reason IS NOT NULL) THEN 0
            ELSE LEAST((((q.minutes + q.reserve) - 1) / q.reserve), q.day_left, 2147483647)
        END AS calls,
    q.is_subscribed,
    q.budget,
    q.spent_on
   FROM ( SELECT u.id AS user_id,
            s.day,
            s.day_ends_at,
            r.reserve,
            LEAST(m.minutes, c.minutes) AS minutes,
            d.day_left,
            (s.user_id IS NOT NULL) AS is_subscribed,
            c.budget,
            c.spent_on,
                CASE
                    WHEN (s.status <> 'ACTIVE'::text) THEN 'SUBSCRIPTION_INACTIVE'::text
                    WHEN ((m.minutes <= 0) OR (s.period_ends_at <= public.clock())) THEN 'QUOTA_MINUTES'::text
                    WHEN ((d.day_left <= 0) OR ((p.per_day IS NOT NULL) AND (s.day_ends_at <= public.clock()))) THEN 'QUOTA_PER_DAY'::text
                    ELSE c.reason
                END AS reason
           FROM ((((((public.users u
             LEFT JOIN public.subscriptions s ON ((s.user_id = u.id)))
             LEFT JOIN public.plans p ON ((p.id = s.plan_id)))
             CROSS JOIN LATERAL ( SELECT COALESCE(( SELECT installation.reserve_minutes
                           FROM public.installation), 10) AS reserve) r)
             LEFT JOIN LATERAL ( SELECT (s.minutes_left - (COALESCE(sum(a.reserved_minutes), (0)::bigint))::integer) AS minutes
                   FROM public.attempts a
                  WHERE ((a.user_id = s.user_id) AND (a.ended_at IS NULL) AND (a.reserved_minutes IS NOT NULL))) m ON (true))
             CROSS JOIN LATERAL ( SELECT (p.per_day - s.day_dials) AS day_left) d)
             LEFT JOIN LATERAL ( SELECT left_of_day.minutes,
                    left_of_day.budget,
                    left_of_day.spent_on,
                    left_of_day.reason
                   FROM public.left_of_day(u.id, u.daily_minutes_max, u.daily_cost_max, r.reserve) left_of_day(minutes, budget, spent_on, reason)
                  WHERE ((u.daily_minutes_max IS NOT NULL) OR (u.daily_cost_max IS NOT NULL))) c ON (true))
          WHERE ((s.user_id IS NOT NULL) OR (u.daily_minutes_max IS NOT NULL) OR (u.daily_cost_max IS NOT NULL))) q;

COMMENT ON VIEW public.quotas IS 'What each metered user may still dial: calls, each reserving so many minutes; reason: why none.';

CREATE FUNCTION public.quotas_of(user_ids uuid[]) RETURNS SETOF public.quotas
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
begin
  if exists (
    select from users u
    where u.id = any (user_ids)
      and (u.daily_minutes_max is not null or u.daily_cost_max is not null or exists (select from subscriptions where user_id = u.id))
  ) then
    return query
    select q.*
    from (select distinct unnest(user_ids) as user_id) u
    cross join lateral (select * from quotas where user_id = u.user_id offset 0) q;
  end if;
end
$$;

CREATE FUNCTION public.reopen_single_lanes("user" uuid) RETURNS void
    LANGUAGE sql
    AS $$
  update lanes set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
  where user_id = "user" and campaign_id is null and country not in ('?', '*') and id <> '00000000-0000-7000-8000-000000000001'
    and ((select obeys_hours from installation) or exists (select from user_settings s where s.user_id = "user"))
$$;

COMMENT ON FUNCTION public.reopen_single_lanes("user" uuid) IS 'New hours or another zone of a user: the lanes of its single calls are closed until their windows are written anew. Needs the admission lock.';

CREATE FUNCTION public.settle_attempts(attempt_ids uuid[], revisions integer[], states text[], provider_call_ids text[], dialed boolean[], weights smallint[], dispositions text[], hangup_causes text[], durations integer[], told jsonb[], transcripts text[], misses smallint[], started boolean[], sent_secs_ago double precision[], check_in_secs double precision[], calls_were text[], calls_become text[], due_in_secs double precision[], due_ats timestamp with time zone[], ranks smallint[], dials_maxes smallint[], event_attempt_ids uuid[], event_keys text[], event_types text[], event_sources text[], event_bodies jsonb[], carrier_call_ids text[], summaries text[], billed boolean[], record_in_secs double precision[], now_is timestamp with time zone) RETURNS TABLE(attempt_id uuid, call_id uuid, phone text, user_id uuid, lane_id uuid, campaign_id uuid, disposition text, ends boolean, since_claim_secs double precision, waits_at timestamp with time zone, is_urgent boolean, parked_behind boolean, blocked_behind boolean)
    LANGUAGE plpgsql
    AS $_$
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
$_$;

CREATE FUNCTION public.settle_rules(obeys_hours boolean, obeys_destinations boolean, sorts_operator boolean, countries text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_variable
declare
  operator constant uuid := '00000000-0000-7000-8000-000000000001';
begin
  -- Most starts change nothing, and wait for nobody.
  if exists (select from installation i
             where (i.obeys_hours, i.obeys_destinations, i.sorts_operator, i.countries)
               is not distinct from (obeys_hours, obeys_destinations, sorts_operator, countries)) then
    return;
  end if;
  perform pg_advisory_xact_lock(7003);
  perform admission_lock(false);
  update installation i set obeys_hours = settle_rules.obeys_hours, obeys_destinations = settle_rules.obeys_destinations,
    sorts_operator = settle_rules.sorts_operator, countries = settle_rules.countries;
  perform lanes_reopen(null);
  if sorts_operator then
    update lanes set country = '?', zones = '{own}', opens_at = '-infinity', closes_at = 'epoch', refresh_at = 'infinity',
      blocked_on = 'window', closed_by = 'ZONE_UNKNOWN', next_at = 'infinity', urgent_at = 'infinity'
    where id = operator;
  else
    update lanes set country = '', zones = '{}', opens_at = '-infinity', closes_at = 'infinity', refresh_at = 'infinity',
      blocked_on = null, closed_by = null, next_at = clock(), urgent_at = urgent_of(id)
    where id = operator;
    update user_turns set next_at = least(next_at, clock()) where user_id = operator and blocked_on is null;
  end if;
end
$$;

COMMENT ON FUNCTION public.settle_rules(obeys_hours boolean, obeys_destinations boolean, sorts_operator boolean, countries text[]) IS 'Puts the rules a process was started with in force: lanes are closed until their windows are written by them.';

CREATE FUNCTION public.span_start(at timestamp with time zone, secs integer) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select date_bin(make_interval(secs => secs), at, 'epoch') $$;

COMMENT ON FUNCTION public.span_start(at timestamp with time zone, secs integer) IS 'Start of the span that holds a time.';

CREATE FUNCTION public.span_start_from(at timestamp with time zone, secs integer) RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select case when secs is null then 'infinity' else span_start(at + make_interval(secs => secs) - interval '1 microsecond', secs) end $$;

COMMENT ON FUNCTION public.span_start_from(at timestamp with time zone, secs integer) IS 'Start of the first span that begins at a time or after it; of no span: infinity.';

CREATE FUNCTION public.steer_prospect(p public.prospects) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
  c calls%rowtype;
begin
  if p.deleted_at is null and p.status in ('INITIAL', 'RESCHEDULED') then
    perform follow_prospect(p);
    return;
  end if;
  select * into c from calls where prospect_id = p.id and state in ('waiting', 'parked', 'live') for update;
  if c.state in ('waiting', 'parked') then
    update calls set state = 'canceled', ended_at = clock(), updated_at = clock(),
      disposition = case when p.status = 'DO_NOT_CALL' then 'DO_NOT_CALL' else 'CANCELED' end
    where id = c.id;
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    values (c.lane_id, c.user_id, null, 'PENDING', -1), (c.lane_id, c.user_id, null, 'CANCELED', 1);
  elsif c.state = 'live' then
    -- As a cancel does: what is decided from now on knows of it.
    update calls set cancel_requested_at = coalesce(cancel_requested_at, clock()), updated_at = clock() where id = c.id;
    update attempts set hang_up_at = coalesce(hang_up_at, clock()), revision = revision + 1 where call_id = c.id and ended_at is null;
  end if;
end
$$;

COMMENT ON FUNCTION public.steer_prospect(p public.prospects) IS 'Has the call of a prospect follow, or takes it out of the queue. Needs the admission lock, exclusive.';

CREATE FUNCTION public.subscriptions_let_go() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if is_service() then
    perform let_prospects_go(old.user_id);
  else
    perform note_change(old.user_id, 'SUBSCRIPTION_ENDED');
  end if;
  return null;
end
$$;

CREATE FUNCTION public.subscriptions_wake() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  if is_service() then
    perform wake_user(new.user_id);
  else
    perform note_change(new.user_id, 'WAKE');
  end if;
  return null;
end
$$;

CREATE FUNCTION public.suppress_numbers("user" uuid, phones text[], reason text, by_status boolean, asked boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
declare
  ended bigint;
begin
with listed as (
  -- Who is on it for another reason stays for that reason; one that weighs more takes its place.
  insert into suppressions as s (phone, user_id, reason, by_status, asked, canonical)
  select distinct identity_of(p.phone), $1::uuid, $3::text, $4::bool, $5::bool, true from unnest($2::text[]) as p(phone)
  on conflict (phone, user_id) do update set reason = excluded.reason, by_status = false, asked = excluded.asked
  where (s.by_status and not excluded.by_status) or (excluded.asked and not s.asked)
),
gone as (
  update calls
  set state = 'canceled', disposition = 'DO_NOT_CALL', ended_at = clock(), updated_at = clock()
  where state in ('waiting', 'parked') and id = any (array(
    select c.id
    from unnest($2::text[]) as p(phone)
    cross join lateral (
      select id from calls
      where phone = identity_of(p.phone) and state in ('waiting', 'parked')
        and (user_id = $1 or $1 = '00000000-0000-7000-8000-000000000001')
    ) c
  ))
  returning lane_id, user_id, campaign_id
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, n * count(*)
  from gone
  cross join (values ('PENDING', -1), ('CANCELED', 1)) as v(what, n)
  group by lane_id, user_id, campaign_id, what, n
)
select count(*) into ended from gone;
  -- Calls of others may have been parked behind one that ended.
  perform bring_back($2);
  return ended;
end
$_$;

CREATE FUNCTION public.take_admission_lock() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  -- Deeper down, the statement that set this off holds it; nobody goes from shared to exclusive. Plain SQL needs none: note_change.
  if pg_trigger_depth() = 1 and is_service() then
    perform admission_lock(false);
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.take_admission_lock() IS 'For statements that move calls by a trigger: the lock comes before any row, and nobody else feeds the queue meanwhile.';

CREATE FUNCTION public.take_in_changes("user" uuid, up_to integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
declare
  c record;
  taken integer := 0;
begin
  -- What somebody's session holds of this user is left for another time, and nobody waits for it.
  perform set_config('lock_timeout', '20ms', true);
  for c in
    with gone as (
      delete from sql_changes
      where id = any (array(select id from sql_changes where user_id = "user" order by id limit up_to))
      returning what, prospect_id
    )
    select what, prospect_id, count(*)::integer as n from gone group by what, prospect_id
  loop
    taken := taken + c.n;
    case c.what
      when 'PROSPECT' then perform steer_prospect(p) from prospects p where p.id = c.prospect_id;
      when 'WAKE' then perform wake_user("user");
      when 'HOURS' then perform reopen_single_lanes("user");
      when 'DESTINATIONS' then perform lanes_reopen("user");
      when 'SUBSCRIPTION_ENDED' then perform let_prospects_go("user");
    end case;
  end loop;
  return taken;
end
$$;

COMMENT ON FUNCTION public.take_in_changes("user" uuid, up_to integer) IS 'Has what plain SQL changed of a user take effect; how many changes that were. What steers a call reads the row as it is now. Needs the admission lock, exclusive.';

CREATE FUNCTION public.tell_endpoints("user" uuid, call uuid, event text, data jsonb) RETURNS void
    LANGUAGE sql
    AS $$
  insert into deliveries (id, endpoint_id, user_id, call_id, type, payload)
  select uuid_v7(), e.id, e.user_id, call, event,
    jsonb_build_object('type', event, 'timestamp', to_char(clock() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'data', data)
  from webhook_endpoints e
  where e.user_id = "user" and e.disabled_at is null and event = any (e.events)
$$;

COMMENT ON FUNCTION public.tell_endpoints("user" uuid, call uuid, event text, data jsonb) IS 'Puts an event into the outbox for each endpoint of the user that wants it.';

CREATE FUNCTION public.tend(lane_ids uuid[], user_ids uuid[], dial_guard_secs double precision, each bigint, dials_per_day integer, gap_secs double precision) RETURNS TABLE(at timestamp with time zone, moved bigint, next_at timestamp with time zone)
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
declare
  tidied record;
begin
  perform admission_lock(false);
  select * into tidied from tidy_lanes($1, $2, $3, $4, $5, $6, wall_clock());
  -- A head that expired or was suppressed has left its number: the next in line comes back.
  if cardinality(tidied.dropped) > 0 then
    perform bring_back(tidied.dropped);
  end if;
  return query select tidied.at, tidied.put_off + cardinality(tidied.dropped), tidied.next_at;
end
$_$;

CREATE FUNCTION public.tidy_lanes(lane_ids uuid[], user_ids uuid[], dial_guard_secs double precision, each bigint, dials_per_day integer, gap_secs double precision, now_is timestamp with time zone) RETURNS TABLE(at timestamp with time zone, put_off bigint, dropped text[], next_at timestamp with time zone)
    LANGUAGE plpgsql
    AS $_$
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
$_$;

CREATE FUNCTION public.turn(attempt_ids uuid[], revisions integer[], states text[], provider_call_ids text[], dialed boolean[], weights smallint[], dispositions text[], hangup_causes text[], durations integer[], told jsonb[], transcripts text[], misses smallint[], started boolean[], sent_secs_ago double precision[], check_in_secs double precision[], calls_were text[], calls_become text[], due_in_secs double precision[], due_ats timestamp with time zone[], ranks smallint[], dials_maxes smallint[], event_attempt_ids uuid[], event_keys text[], event_types text[], event_sources text[], event_bodies jsonb[], carrier_call_ids text[], summaries text[], billed boolean[], record_in_secs double precision[], refused uuid[], hold_secs double precision, recover_secs double precision, want integer, global_limit integer, instance uuid, provider_name text, dial_guard_secs double precision, new_attempt_ids uuid[], lanes_max integer, lease_secs double precision, rate double precision, burst double precision, dials_per_day integer, gap_secs double precision) RETURNS TABLE(ends boolean, since_claim_secs double precision, claims_after_secs double precision, at timestamp with time zone, room integer, live bigint, held_until timestamp with time zone, probing boolean, next_at timestamp with time zone, lanes uuid[], users uuid[], obstructed boolean, attempt_id uuid, call_id uuid, attempt_number integer, dials smallint, dials_max smallint, priority smallint, rank smallint, retry_delay_secs integer, phone text, script_id text, metadata jsonb, variables jsonb, due_at timestamp with time zone, reserved_minutes integer, prospect_id uuid, agent jsonb, retry_rules jsonb)
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
declare
  began     constant timestamptz := clock_timestamp();
  now_is    timestamptz;
  s         record;
  settled   uuid[] := '{}';
  parked    text[] := '{}';
  freed     uuid[] := '{}';
  campaigns uuid[] := '{}';
  woken     uuid[] := '{}';
  woken_at  timestamptz[] := '{}';
  urgents   boolean[] := '{}';
begin
  perform admission_lock(false);
  now_is := wall_clock();
  if cardinality($1) > 0 or cardinality($22) > 0 then
    for s in
      select * from settle_attempts(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29,
        $30, now_is)
    loop
      if s.attempt_id is null then
        woken := woken || s.lane_id;
        woken_at := woken_at || s.waits_at;
        urgents := urgents || s.is_urgent;
        continue;
      end if;
      settled := settled || s.attempt_id;
      if s.parked_behind then
        parked := parked || s.phone;
      end if;
      if s.blocked_behind then
        freed := freed || s.user_id;
        campaigns := campaigns || s.campaign_id;
      end if;
      if s.disposition = 'DO_NOT_CALL' then
        -- Whoever asks not to be called is not called again by what waits already.
        perform suppress_numbers(s.user_id, array[s.phone], 'asked during a call', false, true);
      end if;
      ends := s.ends;
      since_claim_secs := s.since_claim_secs;
      attempt_id := s.attempt_id;
      call_id := s.call_id;
      return next;
    end loop;
    if cardinality(parked) > 0 then
      perform bring_back(parked);
    end if;
    if cardinality(freed) > 0 then
      perform free_slots(freed, campaigns);
    end if;
    if cardinality(woken) > 0 then
      perform wake_lanes(woken, woken_at, urgents);
    end if;
    if cardinality(refused) > 0 then
      -- Only those that were refused by what was written here.
      refused := array(select unnest(refused) intersect select unnest(settled));
      if cardinality(refused) > 0 then
        perform hold_provider(refused, hold_secs, recover_secs, global_limit);
      end if;
    end if;
  end if;
  if want > 0 then
    claims_after_secs := extract(epoch from clock_timestamp() - began);
    return query
    select null::boolean, null::double precision, claims_after_secs, c.*
    from claim_calls($34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, now_is) c;
  end if;
end
$_$;

CREATE FUNCTION public.unheld_users(users uuid[]) RETURNS SETOF uuid
    LANGUAGE sql
    AS $$
  with turns as materialized (
    select user_id from user_turns where user_id = any (users) for no key update skip locked
  ),
  -- Those that wake_user would write.
  asleep as materialized (
    select id, user_id from lanes
    where user_id = any (array(select user_id from turns)) and blocked_on in ('user', 'quota')
    for no key update skip locked
  )
  select t.user_id
  from turns t
  where not exists (
    select from lanes l
    where l.user_id = t.user_id and l.blocked_on in ('user', 'quota') and l.id <> all (array(select id from asleep))
  )
$$;

COMMENT ON FUNCTION public.unheld_users(users uuid[]) IS 'Those of the users whom wake_user can wake without waiting for another session; takes hold of their rows. Needs the admission lock.';

CREATE FUNCTION public.unpark_calls(phones text[]) RETURNS TABLE(lane_id uuid, due_at timestamp with time zone, rank smallint)
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
begin
  return query
with recursive number as materialized (
  select distinct p.phone
  from unnest($1::text[]) as p(phone)
  where not exists (select from attempts a where a.phone = p.phone and a.ended_at is null)
),
hop as (
  select n.phone, f.lane_id, f.id
  from number n
  cross join lateral (
    select c.lane_id, c.id from calls c
    where c.state = 'parked' and c.phone = n.phone
    order by c.lane_id, c.rank, c.due_at, c.id
    limit 1
  ) f
  union all
  select h.phone, f.lane_id, f.id
  from hop h
  cross join lateral (
    select c.lane_id, c.id from calls c
    where c.state = 'parked' and c.phone = h.phone and c.lane_id > h.lane_id
    order by c.lane_id, c.rank, c.due_at, c.id
    limit 1
  ) f
)
update calls
set state = 'waiting', updated_at = clock()
where state = 'parked' and id = any (array(
  -- One that somebody holds is brought back as an orphan, a little later.
  select id from calls where id = any (array(select id from hop)) for update skip locked
))
returning lane_id, due_at, rank;
end
$_$;

CREATE FUNCTION public.unsorted_lane("user" uuid) RETURNS uuid
    LANGUAGE plpgsql
    AS $$
declare
  lane uuid;
begin
  select id into lane from lanes where user_id = "user" and campaign_id is null and country = '?' and zones = '{}';
  if lane is null then
    insert into lanes (id, user_id, country, opens_at, closes_at, blocked_on, closed_by)
    values (gen_random_uuid(), "user", '?', '-infinity', 'epoch', 'window', 'ZONE_UNKNOWN')
    on conflict do nothing;
    select id into lane from lanes where user_id = "user" and campaign_id is null and country = '?' and zones = '{}';
  end if;
  return lane;
end
$$;

COMMENT ON FUNCTION public.unsorted_lane("user" uuid) IS 'The lane of a user whose calls the service still has to place into the lanes of their zones. Closed.';

CREATE FUNCTION public.urgent_of(lane uuid) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
  select least(
    (select due_at from calls where lane_id = lane and state = 'waiting' and rank = 0 order by due_at limit 1),
    (select due_at from calls where lane_id = lane and state = 'waiting' and rank = 1 order by due_at limit 1),
    'infinity')
$$;

COMMENT ON FUNCTION public.urgent_of(lane uuid) IS 'When the first waiting call of rank 0 or 1 of a lane falls due.';

CREATE FUNCTION public.user_of_setting(setting text) RETURNS uuid
    LANGUAGE plpgsql STABLE
    AS $$
declare
  owner uuid := (select user_id from user_settings where external_id = setting or user_id::text = setting);
begin
  if owner is null then
    raise exception 'settingId: there is no setting %', setting using errcode = '23503';
  end if;
  return owner;
end
$$;

COMMENT ON FUNCTION public.user_of_setting(setting text) IS 'Whose setting this is, or an error that names the field.';

CREATE FUNCTION public.user_settings_join_planning() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  return null;
end
$$;

CREATE FUNCTION public.user_settings_reopen() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if is_service() then
    perform admission_lock(true);
    perform reopen_single_lanes(new.user_id);
  else
    perform note_change(new.user_id, 'HOURS');
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.user_settings_reopen() IS 'New hours of a user: its lanes are closed until their windows are written anew.';

CREATE FUNCTION public.users_get_a_lane() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  insert into user_turns (user_id) values (new.id);
  insert into lanes (id, user_id) values (new.id, new.id);
  perform unsorted_lane(new.id);
  return null;
end
$$;

COMMENT ON FUNCTION public.users_get_a_lane() IS 'Every user has a place in the ring and a lane for single calls, whose id is the user''s.';

CREATE FUNCTION public.users_reopen() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if is_service() then
    perform admission_lock(true);
    perform reopen_single_lanes(new.id);
  else
    perform note_change(new.id, 'HOURS');
  end if;
  return null;
end
$$;

COMMENT ON FUNCTION public.users_reopen() IS 'A user whose zone changes: its lanes are closed until their windows are written anew.';

CREATE FUNCTION public.users_reopen_destinations() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  if is_service() then
    perform admission_lock(true);
    perform lanes_reopen(new.id);
  else
    perform note_change(new.id, 'DESTINATIONS');
  end if;
  return null;
end
$$;

CREATE FUNCTION public.users_wake() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  perform note_change(new.id, 'WAKE');
  return null;
end
$$;

COMMENT ON FUNCTION public.users_wake() IS 'Another limit of a user, written by plain SQL: what sleeps at it deserves a look.';

CREATE FUNCTION public.uuid_v7() RETURNS uuid
    LANGUAGE sql
    AS $$
  select (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7' || substr(gen_random_uuid()::text, 16))::uuid
  from lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') as h
$$;

COMMENT ON FUNCTION public.uuid_v7() IS 'A new id that sorts by time, for rows that plain SQL makes.';

CREATE FUNCTION public.wake_lanes(lane_ids uuid[], ats timestamp with time zone[], urgents boolean[]) RETURNS void
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
begin
with call as materialized (
  select w.lane_id, coalesce(w.at, clock()) as at, w.urgent
  from unnest($1::uuid[], $2::timestamptz[], $3::bool[]) as w(lane_id, at, urgent)
),
due as materialized (
  select lane_id, min(at) as next_at, coalesce(min(at) filter (where urgent), 'infinity') as urgent_at
  from call
  group by lane_id
),
woken as (
  update lanes l
  set next_at = least(l.next_at, d.next_at), urgent_at = least(l.urgent_at, d.urgent_at)
  from due d
  where l.id = any ($1) and l.id = d.lane_id and l.blocked_on is null
    and (l.next_at > d.next_at or l.urgent_at > d.urgent_at)
  returning l.user_id, l.next_at
),
turn as materialized (
  select user_id, min(next_at) as next_at from woken group by user_id
)
update user_turns t
set next_at = u.next_at
from turn u
where t.user_id = any (array(select user_id from turn)) and t.user_id = u.user_id
  and t.blocked_on is null and t.next_at > u.next_at;
end
$_$;

CREATE FUNCTION public.wake_user("user" uuid) RETURNS void
    LANGUAGE sql
    AS $$
  update lanes set next_at = clock(), urgent_at = urgent_of(id), blocked_on = null where user_id = "user" and blocked_on in ('user', 'quota');
  update user_turns set next_at = clock(), blocked_on = null where user_id = "user";
$$;

COMMENT ON FUNCTION public.wake_user("user" uuid) IS 'Makes everything of a user deserve a look: what held it back has changed. Needs the admission lock.';

CREATE FUNCTION public.wall_clock() RETURNS timestamp with time zone
    LANGUAGE sql PARALLEL SAFE
    AS $$ select coalesce(nullif(current_setting('outdial.now', true), '')::timestamptz, clock_timestamp()) $$;

COMMENT ON FUNCTION public.wall_clock() IS 'The time at this very moment, for who has waited for a lock inside its statement; clock() is the time the statement began.';

CREATE TABLE public.provider_rates (
    provider text NOT NULL,
    tokens double precision NOT NULL,
    counted_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE public.provider_rates IS 'Token buckets: dials a provider may be asked for at once, as of counted_at. Only the claim takes, under the admission lock.';

CREATE VIEW ops.limits AS
 SELECT l.provider,
    l.global_max,
    l.global_live,
    l.hold_reason,
    l.hold_until,
    l.provider_ceiling,
    l.breaker,
    l.token_at,
        CASE
            WHEN (l.held_for IS NOT NULL) THEN l.held_for
            WHEN (l.global_live >= l.global_max) THEN 'GLOBAL_LIMIT'::text
            WHEN (l.hold_reason IS NOT NULL) THEN l.hold_reason
            WHEN (l.token_at IS NOT NULL) THEN 'PROVIDER_RATE'::text
            ELSE 'DUE_NOW'::text
        END AS reason,
        CASE
            WHEN ((l.held_for IS NOT NULL) OR (l.global_live >= l.global_max)) THEN NULL::timestamp with time zone
            WHEN (l.hold_reason IS NOT NULL) THEN l.hold_until
            ELSE l.token_at
        END AS clears_at
   FROM ( SELECT i.provider,
            i.max_concurrent_calls AS global_max,
            a.live AS global_live,
                CASE
                    WHEN (p.hold_until > public.clock()) THEN p.reason
                    WHEN (p.half_open AND (a.probing > 0)) THEN 'BREAKER_OPEN'::text
                    WHEN (a.live >= public.ceiling_of(p.*, i.max_concurrent_calls)) THEN 'PROVIDER_CAPACITY'::text
                    ELSE NULL::text
                END AS hold_reason,
                CASE
                    WHEN (p.hold_until > public.clock()) THEN p.hold_until
                    ELSE NULL::timestamp with time zone
                END AS hold_until,
            public.ceiling_of(p.*, i.max_concurrent_calls) AS provider_ceiling,
                CASE
                    WHEN ((p.hold_until > public.clock()) AND (p.reason = 'BREAKER_OPEN'::text)) THEN 'open'::text
                    WHEN p.half_open THEN 'half-open'::text
                    ELSE 'closed'::text
                END AS breaker,
            (r.counted_at + make_interval(secs => (((1)::double precision - r.tokens) / NULLIF(i.dials_per_second, (0)::double precision)))) AS token_at,
            i.held_for
           FROM (((public.installation i
             LEFT JOIN public.provider_states p ON ((p.provider = i.provider)))
             CROSS JOIN LATERAL ( SELECT count(*) AS live,
                    count(*) FILTER (WHERE ((attempts.state = 'dialing'::public.attempt_state) AND (attempts.claimed_at >= p.hold_until))) AS probing
                   FROM public.attempts
                  WHERE (attempts.ended_at IS NULL)) a)
             LEFT JOIN public.provider_rates r ON (((r.provider = i.provider) AND (i.dials_per_second > (0)::double precision) AND ((r.tokens + (i.dials_per_second * (EXTRACT(epoch FROM (public.clock() - r.counted_at)))::double precision)) < (1)::double precision))))) l;

COMMENT ON VIEW ops.limits IS 'What holds for all calls at once: slots, what the provider takes (holds, breaker, learned ceiling), when its next token is there; and what of it holds a call that nothing else holds, or DUE_NOW.';

CREATE TABLE public.instances (
    id uuid NOT NULL,
    started_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    role text NOT NULL,
    host text NOT NULL,
    turn_at timestamp with time zone,
    settle_at timestamp with time zone,
    planning_at timestamp with time zone,
    delivery_at timestamp with time zone,
    housekeeping_at timestamp with time zone,
    word_at timestamp with time zone
)
WITH (fillfactor='50');

COMMENT ON TABLE public.instances IS 'Running processes. One lease a process, renewed while it lives; the id is new at every start.';

COMMENT ON COLUMN public.instances.lease_until IS 'Past it, attempts this process was dialing are in doubt.';

COMMENT ON COLUMN public.instances.turn_at IS 'Its last turn that succeeded; the others likewise: settling, planning batch, delivery to a customer, housekeeping.';

COMMENT ON COLUMN public.instances.word_at IS 'When a provider last said something to it, by webhook or when asked.';

CREATE VIEW ops.processes AS
 SELECT instances.id,
    instances.role,
    instances.host,
    instances.started_at,
    instances.lease_until,
    instances.turn_at,
    instances.settle_at,
    instances.planning_at,
    instances.delivery_at,
    instances.housekeeping_at,
    instances.word_at
   FROM public.instances
  WHERE (instances.lease_until > public.clock());

COMMENT ON VIEW ops.processes IS 'Running processes and what they last did.';

CREATE TABLE public.dead_letters (
    id uuid DEFAULT public.uuid_v7() NOT NULL,
    at timestamp with time zone DEFAULT public.clock() NOT NULL,
    kind text NOT NULL,
    subject_id uuid,
    user_id uuid,
    reason text NOT NULL,
    detail text,
    body text,
    CONSTRAINT dead_letters_kind_known CHECK ((kind = ANY (ARRAY['call'::text, 'prospect'::text, 'script'::text, 'settings'::text, 'schedule'::text, 'event'::text, 'upload_row'::text])))
);

COMMENT ON TABLE public.dead_letters IS 'What could not be read or stored, set aside alone so that nothing else waits for it.';

COMMENT ON COLUMN public.dead_letters.subject_id IS 'The call, prospect, …; of an event, its attempt.';

COMMENT ON COLUMN public.dead_letters.reason IS 'UNREADABLE: it is not what it must be. REFUSED: Postgres would not take it.';

COMMENT ON COLUMN public.dead_letters.body IS 'What it was, as text.';

CREATE VIEW ops.alarms AS
 WITH alive AS (
         SELECT COALESCE(bool_or((processes.role = ANY (ARRAY['all'::text, 'api'::text]))), false) AS api,
            COALESCE(bool_or((processes.role = ANY (ARRAY['all'::text, 'worker'::text]))), false) AS worker,
            COALESCE(bool_or((processes.role = ANY (ARRAY['all'::text, 'scheduler'::text]))), false) AS scheduler,
            max(processes.turn_at) FILTER (WHERE (processes.role = ANY (ARRAY['all'::text, 'worker'::text]))) AS turn_at,
            max(processes.word_at) AS word_at,
            max(processes.housekeeping_at) AS housekeeping_at,
            min(processes.started_at) AS started_at
           FROM ops.processes
        )
 SELECT 'DIALING_HELD'::text AS code,
    i.held_since AS since,
        CASE i.held_for
            WHEN 'RESTORED_DATABASE'::text THEN 'this database is another than the one that dialed last (a restored backup, or a promoted standby)'::text
            ELSE 'commits of this database were lost: it does not know of calls that were dialed'::text
        END AS what,
    'run outdial reconcile, which asks the provider; then outdial reconcile --lift-hold'::text AS way_out
   FROM public.installation i
  WHERE (i.held_since IS NOT NULL)
UNION ALL
 SELECT 'NO_WORKER'::text AS code,
    NULL::timestamp with time zone AS since,
    'no process dials'::text AS what,
    'start one with --role worker or --role all'::text AS way_out
   FROM alive
  WHERE (NOT alive.worker)
UNION ALL
 SELECT 'NO_SCHEDULER'::text AS code,
    NULL::timestamp with time zone AS since,
    'no process plans, opens windows, reads files or tells customers'::text AS what,
    'start one with --role scheduler or --role all'::text AS way_out
   FROM alive
  WHERE (NOT alive.scheduler)
UNION ALL
 SELECT 'NO_API'::text AS code,
    NULL::timestamp with time zone AS since,
    'no process takes requests and webhooks'::text AS what,
    'start one with --role api or --role all'::text AS way_out
   FROM alive
  WHERE (NOT alive.api)
UNION ALL
 SELECT 'TURNS_STALLED'::text AS code,
    alive.turn_at AS since,
    'no turn of any worker has succeeded for a while: nothing is dialed or settled'::text AS what,
    'see its log; a lock in somebody''s session shows in ops.lock_holders'::text AS way_out
   FROM alive
  WHERE (alive.worker AND (COALESCE(alive.turn_at, alive.started_at) < (public.clock() - '00:00:30'::interval)))
UNION ALL
 SELECT 'HOUSEKEEPING_STALLED'::text AS code,
    alive.housekeeping_at AS since,
    'no housekeeping has succeeded for a while'::text AS what,
    'see the scheduler''s log'::text AS way_out
   FROM alive
  WHERE (alive.scheduler AND (COALESCE(alive.housekeeping_at, alive.started_at) < (public.clock() - '00:01:00'::interval)))
UNION ALL
 SELECT 'PROVIDER_SILENT'::text AS code,
    s.since,
    (s.n || ' accepted calls, and no word from the provider for over 5 minutes'::text) AS what,
    'can it reach SERVICE_URL (WEBHOOK_BASE_URL)? Set a look-up, or end calls by POST /api/v1/calls/{id}/end'::text AS way_out
   FROM (( SELECT count(*) AS n,
            min(attempts.accepted_at) AS since
           FROM public.attempts
          WHERE ((attempts.ended_at IS NULL) AND (attempts.state = 'accepted'::public.attempt_state) AND (attempts.accepted_at < (public.clock() - '00:05:00'::interval)))) s
     CROSS JOIN alive)
  WHERE ((s.n > 0) AND (COALESCE(alive.word_at, '-infinity'::timestamp with time zone) < (public.clock() - '00:05:00'::interval)))
UNION ALL
 SELECT 'IN_DOUBT'::text AS code,
    min(a.claimed_at) AS since,
    (count(*) || ' attempts in doubt for over 5 minutes'::text) AS what,
    'the provider does not answer the look-up; end them by POST /api/v1/calls/{id}/end once you know'::text AS way_out
   FROM public.attempts a
  WHERE ((a.ended_at IS NULL) AND (a.state = 'unknown'::public.attempt_state) AND (a.claimed_at < (public.clock() - '00:05:00'::interval)))
 HAVING (count(*) > 0)
UNION ALL
 SELECT 'DEAD_LETTERS'::text AS code,
    min(d.at) AS since,
    (count(*) || ' things could not be read or stored within the last day'::text) AS what,
    'look at ops.dead_letters'::text AS way_out
   FROM public.dead_letters d
  WHERE (d.at > (public.clock() - '1 day'::interval))
 HAVING (count(*) > 0)
UNION ALL
 SELECT 'BREAKER_OPEN'::text AS code,
    NULL::timestamp with time zone AS since,
    'the provider does not answer, or refuses us'::text AS what,
    'see ops.provider_errors and outdial doctor'::text AS way_out
   FROM ops.limits l
  WHERE (l.breaker <> 'closed'::text)
UNION ALL
 SELECT 'LOCK_HELD'::text AS code,
    h.since,
    ((((((('session '::text || h.pid) || ' ('::text) || h.application) || ', '::text) || h.state) || ') holds '::text) || h.what) AS what,
    (('end it: select pg_terminate_backend('::text || h.pid) || ')'::text) AS way_out
   FROM ( SELECT l.pid,
            s.application_name AS application,
            COALESCE(s.state, 'unknown'::text) AS state,
            min(s.xact_start) AS since,
            COALESCE(('locks on '::text || string_agg(DISTINCT (c.relname)::text, ', '::text ORDER BY ((c.relname)::text))), 'the queue''s lock'::text) AS what
           FROM ((pg_locks l
             JOIN pg_stat_activity s ON ((s.pid = l.pid)))
             LEFT JOIN pg_class c ON (((l.locktype = 'relation'::text) AND (c.oid = l.relation) AND (c.relkind = 'r'::"char") AND (c.relnamespace = ('public'::regnamespace)::oid))))
          WHERE (l.granted AND (s.backend_type = 'client backend'::text) AND (s.application_name IS DISTINCT FROM 'outdial'::text) AND (l.database = ( SELECT d.oid
                   FROM pg_database d
                  WHERE (d.datname = current_database()))) AND (((l.locktype = 'advisory'::text) AND (l.classid = (0)::oid) AND (l.objid = (7001)::oid) AND (s.state_change < (clock_timestamp() - '00:00:01'::interval))) OR ((c.oid IS NOT NULL) AND (l.mode <> ALL (ARRAY['AccessShareLock'::text, 'ShareUpdateExclusiveLock'::text])) AND (s.xact_start < (clock_timestamp() - '00:00:05'::interval)))))
          GROUP BY l.pid, s.application_name, s.state) h;

COMMENT ON VIEW ops.alarms IS 'What is wrong now, since when, and the way out: empty when all is well.';

CREATE TABLE public.tallies (
    lane_id uuid NOT NULL,
    user_id uuid NOT NULL,
    campaign_id uuid,
    what text NOT NULL,
    n bigint NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.tallies IS 'Folded counts of each lane: calls by public status, DIALS, and RETRIES (dials after a call''s first).';

CREATE TABLE public.tally_deltas (
    lane_id uuid NOT NULL,
    user_id uuid NOT NULL,
    campaign_id uuid,
    what text NOT NULL,
    n bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000');

COMMENT ON TABLE public.tally_deltas IS 'Counts not folded yet; appended by the statement that moved the calls.';

CREATE VIEW ops.tallies AS
 SELECT t.lane_id,
    t.user_id,
    t.campaign_id,
    t.what,
    (sum(t.n))::bigint AS n
   FROM ( SELECT tallies.lane_id,
            tallies.user_id,
            tallies.campaign_id,
            tallies.what,
            tallies.n
           FROM public.tallies
        UNION ALL
         SELECT tally_deltas.lane_id,
            tally_deltas.user_id,
            tally_deltas.campaign_id,
            tally_deltas.what,
            tally_deltas.n
           FROM public.tally_deltas) t
  GROUP BY t.lane_id, t.user_id, t.campaign_id, t.what;

COMMENT ON VIEW ops.tallies IS 'Calls by status, DIALS and RETRIES of each lane, exact at any moment.';

CREATE TABLE public.calls (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    lane_id uuid NOT NULL,
    campaign_id uuid,
    state public.call_state DEFAULT 'waiting'::public.call_state NOT NULL,
    rank smallint DEFAULT 3 NOT NULL,
    priority smallint DEFAULT 3 NOT NULL,
    dials smallint DEFAULT 0 NOT NULL,
    dials_max smallint NOT NULL,
    dials_granted smallint DEFAULT 0 NOT NULL,
    attempt_number integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    expires_at timestamp with time zone,
    ended_at timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    phone text NOT NULL,
    script_id text NOT NULL,
    disposition text,
    external_id text,
    time_zone text,
    ignore_window boolean DEFAULT false NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    variables jsonb DEFAULT '{}'::jsonb NOT NULL,
    prospect_id uuid,
    given text,
    capped_until timestamp with time zone,
    CONSTRAINT calls_capped_until_computable CHECK (((capped_until >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (capped_until < '10000-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT calls_dials_max_range CHECK (((dials_max >= 1) AND (dials_max <= 1000))),
    CONSTRAINT calls_dials_within_attempts CHECK (((dials >= 0) AND (dials <= attempt_number))),
    CONSTRAINT calls_due_at_computable CHECK (((due_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (due_at < '10000-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT calls_ended_at_iff_final CHECK (((ended_at IS NOT NULL) = (state = ANY (ARRAY['completed'::public.call_state, 'failed'::public.call_state, 'expired'::public.call_state, 'canceled'::public.call_state])))),
    CONSTRAINT calls_expired_never_dialed CHECK (((state <> 'expired'::public.call_state) OR (dials = 0))),
    CONSTRAINT calls_expires_at_computable CHECK (((expires_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (expires_at < '10000-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT calls_external_id_length CHECK ((char_length(external_id) <= 255)),
    CONSTRAINT calls_live_has_attempt CHECK (((state <> 'live'::public.call_state) OR (attempt_number > 0))),
    CONSTRAINT calls_metadata_readable CHECK (((jsonb_typeof(metadata) = 'object'::text) AND (octet_length((metadata)::text) <= 65536) AND ((octet_length((metadata)::text) < 64) OR (NOT jsonb_path_exists(metadata, '$.**{32 to last}?(@.type() == "object" || @.type() == "array")'::jsonpath))))),
    CONSTRAINT calls_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text)),
    CONSTRAINT calls_priority_known CHECK ((priority = ANY (ARRAY[1, 3, 4]))),
    CONSTRAINT calls_rank_known CHECK (((rank >= 0) AND (rank <= 4))),
    CONSTRAINT calls_script_id_length CHECK ((char_length(script_id) <= 20000)),
    CONSTRAINT calls_time_zone_length CHECK ((char_length(time_zone) <= 255)),
    CONSTRAINT calls_variables_readable CHECK (((jsonb_typeof(variables) = 'object'::text) AND (octet_length((variables)::text) <= 65536) AND ((octet_length((variables)::text) < 64) OR (NOT jsonb_path_exists(variables, '$.**{32 to last}?(@.type() == "object" || @.type() == "array")'::jsonpath)))))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05');

COMMENT ON TABLE public.calls IS 'The job: reach this number with this script. One row from creation to its end.';

COMMENT ON COLUMN public.calls.rank IS 'Order within a lane: 0 promised callback, 1 high, 2 retry, 3 normal, 4 low; then by due_at.';

COMMENT ON COLUMN public.calls.priority IS 'What was asked for: 1 high, 3 normal, 4 low. A retry of a normal call gets rank 2.';

COMMENT ON COLUMN public.calls.dials IS 'Dials so far; refusals for capacity and requests never sent are none. Shown as attempts.';

COMMENT ON COLUMN public.calls.dials_max IS 'Dials in all before it is FAILED; for a call of a campaign, its max_retries + 1 + dials_granted counts instead.';

COMMENT ON COLUMN public.calls.dials_granted IS 'Dials beyond the campaign''s, given by hand.';

COMMENT ON COLUMN public.calls.attempt_number IS 'Number of the newest attempt; only grows. With the call id it names the attempt that may still change this call.';

COMMENT ON COLUMN public.calls.due_at IS 'Not before this time.';

COMMENT ON COLUMN public.calls.expires_at IS 'Not after this time: EXPIRED when nothing was dialed by then, FAILED with the last disposition otherwise.';

COMMENT ON COLUMN public.calls.cancel_requested_at IS 'Cancel asked while live: the hang-up is asked of the provider and nothing is retried.';

COMMENT ON COLUMN public.calls.time_zone IS 'The callee''s zone as given with the call.';

COMMENT ON COLUMN public.calls.prospect_id IS 'The person it is for, where that is a prospect.';

COMMENT ON COLUMN public.calls.given IS 'The number as it is dialed, where that is not its identity (phone); null: phone itself.';

COMMENT ON COLUMN public.calls.capped_until IS 'Its due time was set by the rule on how often a number is dialed; without meaning where due_at is another by now.';

CREATE TABLE public.campaigns (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    schedule_id uuid,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    canceled_at timestamp with time zone,
    deleted_at timestamp with time zone,
    swept_at timestamp with time zone,
    max_concurrent_calls integer DEFAULT 5 NOT NULL,
    max_retries integer DEFAULT 3 NOT NULL,
    retry_delay_secs integer DEFAULT 300 NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    name text NOT NULL,
    script_id text NOT NULL,
    hours_in text DEFAULT 'schedule'::text NOT NULL,
    zone_policy text,
    external_id text,
    CONSTRAINT campaigns_canceled_at_computable CHECK (public.is_computable(canceled_at)),
    CONSTRAINT campaigns_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT campaigns_deleted_at_computable CHECK (public.is_computable(deleted_at)),
    CONSTRAINT campaigns_hours_in_known CHECK ((hours_in = ANY (ARRAY['schedule'::text, 'callee'::text]))),
    CONSTRAINT campaigns_max_concurrent_calls_positive CHECK ((max_concurrent_calls > 0)),
    CONSTRAINT campaigns_max_retries_range CHECK (((max_retries >= 0) AND (max_retries <= 100))),
    CONSTRAINT campaigns_retry_delay_range CHECK (((retry_delay_secs >= 0) AND (retry_delay_secs <= 31536000))),
    CONSTRAINT campaigns_script_id_length CHECK ((char_length(script_id) <= 20000)),
    CONSTRAINT campaigns_swept_at_computable CHECK (public.is_computable(swept_at)),
    CONSTRAINT campaigns_updated_at_computable CHECK (public.is_computable(updated_at)),
    CONSTRAINT campaigns_zone_policy_known CHECK ((zone_policy = ANY (ARRAY['user'::text, 'hold'::text])))
);

COMMENT ON TABLE public.campaigns IS 'A list of calls with one script, its own limits and retry rules.';

COMMENT ON COLUMN public.campaigns.canceled_at IS 'Canceled for good: its waiting calls are ended in the background.';

COMMENT ON COLUMN public.campaigns.swept_at IS 'Canceled, and nothing of it waits any more.';

COMMENT ON COLUMN public.campaigns.max_retries IS 'Dials after the first; max_dials of its calls is one more.';

COMMENT ON COLUMN public.campaigns.paused IS 'Nothing of it is dialed; its lanes carry the same flag, so that the claim looks at lanes alone.';

COMMENT ON COLUMN public.campaigns.hours_in IS 'Whose clock the schedule''s hours are read on.';

COMMENT ON COLUMN public.campaigns.zone_policy IS 'A callee whose zone is unknown: user = the schedule''s or user''s zone stands in, hold = not dialed; null: as the provider wants it.';

CREATE TABLE public.lanes (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    campaign_id uuid,
    next_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    urgent_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    opens_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    closes_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    refresh_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    blocked_on text,
    closed_by text,
    country text DEFAULT ''::text NOT NULL,
    zones text[] DEFAULT '{}'::text[] NOT NULL,
    destination text DEFAULT 'ORDINARY'::text NOT NULL,
    CONSTRAINT lanes_blocked_on_known CHECK ((blocked_on = ANY (ARRAY['pause'::text, 'window'::text, 'campaign'::text, 'user'::text, 'quota'::text]))),
    CONSTRAINT lanes_blocked_sleeps CHECK (((blocked_on IS NULL) OR ((next_at = 'infinity'::timestamp with time zone) AND (urgent_at = 'infinity'::timestamp with time zone)))),
    CONSTRAINT lanes_closed_by_known CHECK ((closed_by = ANY (ARRAY['WINDOW_CLOSED'::text, 'CLOSED_DATE'::text, 'LEGAL_HOURS'::text, 'ZONE_UNKNOWN'::text, 'WINDOW_NEVER_OPENS'::text, 'DESTINATION_NOT_ALLOWED'::text, 'INVALID_NUMBER'::text]))),
    CONSTRAINT lanes_closes_at_computable CHECK ((((closes_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (closes_at < '10000-01-01 00:00:00+00'::timestamp with time zone)) OR (closes_at = 'infinity'::timestamp with time zone))),
    CONSTRAINT lanes_destination_known CHECK ((destination = ANY (ARRAY['ORDINARY'::text, 'PREMIUM'::text, 'SHARED_COST'::text, 'SATELLITE'::text, 'UNASSIGNED'::text, 'IMPOSSIBLE'::text]))),
    CONSTRAINT lanes_next_at_computable CHECK ((((next_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (next_at < '10000-01-01 00:00:00+00'::timestamp with time zone)) OR (next_at = 'infinity'::timestamp with time zone))),
    CONSTRAINT lanes_opens_at_computable CHECK ((((opens_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (opens_at < '10000-01-01 00:00:00+00'::timestamp with time zone)) OR (opens_at = '-infinity'::timestamp with time zone))),
    CONSTRAINT lanes_opens_before_it_closes CHECK ((opens_at < closes_at)),
    CONSTRAINT lanes_urgent_at_computable CHECK ((((urgent_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (urgent_at < '10000-01-01 00:00:00+00'::timestamp with time zone)) OR (urgent_at = 'infinity'::timestamp with time zone)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

COMMENT ON TABLE public.lanes IS 'Calls that may be dialed under the same rules: one campaign (or one user''s single calls) x one set of candidate zones.';

COMMENT ON COLUMN public.lanes.next_at IS 'When this lane deserves a look; infinity: asleep. Never later than its first due call unless blocked_on says why.';

COMMENT ON COLUMN public.lanes.urgent_at IS 'When its first call of rank 0 or 1 falls due; such lanes are read before the ring.';

COMMENT ON COLUMN public.lanes.opens_at IS 'Start of the current or next calling window.';

COMMENT ON COLUMN public.lanes.closes_at IS 'End of that window, exclusive. Past it the lane is closed until the scheduler writes the next: late means closed.';

COMMENT ON COLUMN public.lanes.refresh_at IS 'When the scheduler writes the next window; never later than closes_at.';

COMMENT ON COLUMN public.lanes.blocked_on IS 'Why it sleeps although calls may be due; whatever frees or raises that wakes it. Never a global or provider reason.';

COMMENT ON COLUMN public.lanes.closed_by IS 'What keeps it closed until opens_at, or for good.';

COMMENT ON COLUMN public.lanes.country IS 'ISO 3166 country of the people called, for its legal hours; empty: unknown.';

COMMENT ON COLUMN public.lanes.zones IS 'Candidate time zones of the people called; empty: none are needed.';

COMMENT ON COLUMN public.lanes.destination IS 'The kind of number of all its calls: domain::place::Destination.';

CREATE TABLE public.later_deltas (
    lane_id uuid NOT NULL,
    due_at timestamp with time zone NOT NULL,
    reason text NOT NULL,
    n integer NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000');

COMMENT ON TABLE public.later_deltas IS 'Counts not folded yet; appended for each call that enters for a later time or leaves before it.';

CREATE TABLE public.later_tallies (
    lane_id uuid NOT NULL,
    span_secs integer NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    reason text NOT NULL,
    n bigint NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.later_tallies IS 'Folded counts of the waiting calls of campaigns by the second, minute, hour and day (UTC) they fall due in. True of spans to come alone: a call that falls due leaves nothing behind. It is taken for granted that the database''s clock does not go back.';

CREATE TABLE public.sql_changes (
    id bigint NOT NULL,
    user_id uuid NOT NULL,
    what text NOT NULL,
    prospect_id uuid,
    noted_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    CONSTRAINT sql_changes_names_a_prospect CHECK (((prospect_id IS NOT NULL) = (what = 'PROSPECT'::text))),
    CONSTRAINT sql_changes_noted_at_computable CHECK (public.is_computable(noted_at)),
    CONSTRAINT sql_changes_what_known CHECK ((what = ANY (ARRAY['PROSPECT'::text, 'WAKE'::text, 'HOURS'::text, 'DESTINATIONS'::text, 'SUBSCRIPTION_ENDED'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000');

COMMENT ON TABLE public.sql_changes IS 'What plain SQL has changed and the service has not taken in yet. The user may be gone by now: no foreign key.';

CREATE TABLE public.suppressions (
    phone text NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    by_status boolean DEFAULT false NOT NULL,
    reason text,
    asked boolean DEFAULT false NOT NULL,
    canonical boolean DEFAULT false NOT NULL,
    CONSTRAINT suppressions_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT suppressions_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text))
);

COMMENT ON TABLE public.suppressions IS 'Numbers that must not be called (do-not-call), by a user or, under the operator, by anybody. The claim itself looks here.';

COMMENT ON COLUMN public.suppressions.by_status IS 'It stands for a phone number''s status, and goes with it.';

COMMENT ON COLUMN public.suppressions.asked IS 'The callee asked for it during a call: no tenant takes it off, and an admin only with a reason, which is kept.';

COMMENT ON COLUMN public.suppressions.canonical IS 'The service has seen to it that the number stands here in its canonical form.';

CREATE TABLE public.user_days (
    user_id uuid NOT NULL,
    day date NOT NULL,
    minutes integer NOT NULL,
    cost numeric(14,4) NOT NULL,
    CONSTRAINT user_days_day_computable CHECK (((day >= '1900-01-01'::date) AND (day <= '9999-12-31'::date)))
)
WITH (fillfactor='70');

COMMENT ON TABLE public.user_days IS 'What calls of users with daily caps took on a day (UTC); what live ones have reserved comes on top.';

CREATE TABLE public.user_turns (
    user_id uuid NOT NULL,
    next_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    blocked_on text,
    probed_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT user_turns_blocked_on_known CHECK ((blocked_on = ANY (ARRAY['user'::text, 'quota'::text]))),
    CONSTRAINT user_turns_blocked_sleeps CHECK (((blocked_on IS NULL) OR (next_at = 'infinity'::timestamp with time zone))),
    CONSTRAINT user_turns_next_at_computable CHECK ((((next_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (next_at < '10000-01-01 00:00:00+00'::timestamp with time zone)) OR (next_at = 'infinity'::timestamp with time zone))),
    CONSTRAINT user_turns_probed_at_computable CHECK ((((probed_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (probed_at < '10000-01-01 00:00:00+00'::timestamp with time zone)) OR (probed_at = '-infinity'::timestamp with time zone)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

COMMENT ON TABLE public.user_turns IS 'The ring of users: whose lanes are looked at next. Fairness is between users, not lanes.';

COMMENT ON COLUMN public.user_turns.next_at IS 'Never later than the earliest next_at of the user''s lanes, unless blocked_on says why.';

COMMENT ON COLUMN public.user_turns.probed_at IS 'When a call of this user was last the one that had to prove that the provider is back.';

CREATE VIEW ops.broken AS
 SELECT 'live call without its open attempt'::text AS what,
    c.id
   FROM public.calls c
  WHERE ((c.state = 'live'::public.call_state) AND (NOT (EXISTS ( SELECT
           FROM public.attempts a
          WHERE ((a.call_id = c.id) AND (a.number = c.attempt_number) AND (a.ended_at IS NULL))))))
UNION ALL
 SELECT 'open attempt of a call that is not live'::text AS what,
    a.call_id AS id
   FROM public.attempts a
  WHERE ((a.ended_at IS NULL) AND (NOT (EXISTS ( SELECT
           FROM public.calls c
          WHERE ((c.id = a.call_id) AND (c.state = 'live'::public.call_state) AND (c.attempt_number = a.number))))))
UNION ALL
 SELECT 'parked call that nothing will wake'::text AS what,
    c.id
   FROM public.calls c
  WHERE ((c.state = 'parked'::public.call_state) AND (NOT (EXISTS ( SELECT
           FROM public.attempts a
          WHERE ((a.phone = c.phone) AND (a.ended_at IS NULL))))) AND (NOT (EXISTS ( SELECT
           FROM public.calls w
          WHERE ((w.phone = c.phone) AND (w.lane_id = c.lane_id) AND (w.state = 'waiting'::public.call_state))))))
UNION ALL
 SELECT 'lane asleep over a waiting call'::text AS what,
    l.id
   FROM public.lanes l
  WHERE ((l.blocked_on IS NULL) AND (EXISTS ( SELECT
           FROM public.calls c
          WHERE ((c.lane_id = l.id) AND (c.state = 'waiting'::public.call_state) AND (GREATEST(l.opens_at, c.due_at, public.clock()) < l.next_at)))))
UNION ALL
 SELECT 'lane asleep over a promise'::text AS what,
    l.id
   FROM public.lanes l
  WHERE ((l.blocked_on IS NULL) AND (EXISTS ( SELECT
           FROM public.calls c
          WHERE ((c.lane_id = l.id) AND (c.state = 'waiting'::public.call_state) AND (c.rank < 2) AND (GREATEST(l.opens_at, c.due_at, public.clock()) < l.urgent_at)))))
UNION ALL
 SELECT 'user asleep over a lane'::text AS what,
    t.user_id AS id
   FROM public.user_turns t
  WHERE ((t.blocked_on IS NULL) AND (t.next_at > ( SELECT GREATEST(min(l.next_at), public.clock()) AS "greatest"
           FROM public.lanes l
          WHERE (l.user_id = t.user_id))))
UNION ALL
 SELECT 'lane blocked without its reason'::text AS what,
    l.id
   FROM public.lanes l
  WHERE (((l.blocked_on = 'pause'::text) AND (NOT l.paused)) OR ((l.blocked_on = 'window'::text) AND (l.closes_at > (public.clock() + '00:01:00'::interval))) OR ((l.blocked_on = 'campaign'::text) AND (( SELECT count(*) AS count
           FROM public.attempts a
          WHERE ((a.campaign_id = l.campaign_id) AND (a.ended_at IS NULL))) < ( SELECT g.max_concurrent_calls
           FROM public.campaigns g
          WHERE (g.id = l.campaign_id)))) OR ((l.blocked_on = 'user'::text) AND (NOT (EXISTS ( SELECT
           FROM public.sql_changes x
          WHERE (x.user_id = l.user_id)))) AND (( SELECT count(*) AS count
           FROM public.attempts a
          WHERE ((a.user_id = l.user_id) AND (a.ended_at IS NULL))) < COALESCE(( SELECT u.max_concurrent_calls
           FROM public.users u
          WHERE (u.id = l.user_id)), 2147483647))) OR ((l.blocked_on = 'quota'::text) AND (NOT (EXISTS ( SELECT
           FROM public.sql_changes x
          WHERE (x.user_id = l.user_id)))) AND COALESCE(( SELECT (q.calls > 0)
           FROM public.quotas q
          WHERE (q.user_id = l.user_id)), true)))
UNION ALL
 SELECT 'day of a subscription is off'::text AS what,
    s.user_id AS id
   FROM public.subscriptions s
  WHERE ((s.day IS NOT NULL) AND (s.day_dials <> ( SELECT count(*) AS count
           FROM public.attempts a
          WHERE ((a.user_id = s.user_id) AND (a.counted_on = s.day)))))
UNION ALL
 SELECT 'ended attempt whose minutes were not taken'::text AS what,
    a.id
   FROM public.attempts a
  WHERE ((a.reserved_minutes IS NOT NULL) AND (a.ended_at IS NOT NULL) AND (a.charged_minutes IS DISTINCT FROM
        CASE
            WHEN a.dialed THEN (ceil(((COALESCE(a.duration_secs, 0))::numeric / 60.0)))::integer
            ELSE 0
        END))
UNION ALL
 SELECT 'promise that nobody keeps'::text AS what,
    p.id
   FROM public.prospects p
  WHERE ((p.status = 'RESCHEDULED'::text) AND (NOT (EXISTS ( SELECT
           FROM public.sql_changes x
          WHERE (x.user_id = p.user_id)))) AND (p.rescheduled_for IS NOT NULL) AND (p.deleted_at IS NULL) AND (NOT (EXISTS ( SELECT
           FROM public.calls c
          WHERE ((c.prospect_id = p.id) AND (c.state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state, 'live'::public.call_state])))))) AND (NOT (EXISTS ( SELECT
           FROM public.suppressions s
          WHERE (s.phone = p.phone)))))
UNION ALL
 SELECT 'final call without a disposition'::text AS what,
    c.id
   FROM public.calls c
  WHERE ((c.state = ANY (ARRAY['completed'::public.call_state, 'failed'::public.call_state])) AND (c.disposition IS NULL))
UNION ALL
 SELECT (('count of '::text || COALESCE(t.what, public.public_status(c.state))) || ' is off'::text) AS what,
    COALESCE(t.lane_id, c.lane_id) AS id
   FROM (( SELECT tallies.lane_id,
            tallies.what,
            tallies.n
           FROM ops.tallies
          WHERE ((tallies.what <> ALL (ARRAY['DIALS'::text, 'RETRIES'::text])) AND (tallies.n <> 0))) t
     FULL JOIN ( SELECT calls.lane_id,
            public.public_status(calls.state) AS what,
            min(calls.state) AS state,
            count(*) AS n
           FROM public.calls
          GROUP BY calls.lane_id, (public.public_status(calls.state))) c ON (((c.lane_id = t.lane_id) AND (c.what = t.what))))
  WHERE (t.n IS DISTINCT FROM c.n)
UNION ALL
 SELECT (('count of '::text || COALESCE(t.reason, c.reason)) || ' is off'::text) AS what,
    COALESCE(t.lane_id, c.lane_id) AS id
   FROM (( SELECT t_1.lane_id,
            t_1.reason,
            date_trunc('second'::text, t_1.due_at) AS due_at,
            sum(t_1.n) AS n
           FROM ( SELECT later_tallies.lane_id,
                    later_tallies.reason,
                    later_tallies.starts_at AS due_at,
                    later_tallies.n
                   FROM public.later_tallies
                  WHERE (later_tallies.span_secs = 1)
                UNION ALL
                 SELECT later_deltas.lane_id,
                    later_deltas.reason,
                    later_deltas.due_at,
                    later_deltas.n
                   FROM public.later_deltas) t_1
          WHERE (t_1.due_at >= (date_trunc('second'::text, public.clock()) + '00:00:10'::interval))
          GROUP BY t_1.lane_id, t_1.reason, (date_trunc('second'::text, t_1.due_at))
         HAVING (sum(t_1.n) <> (0)::numeric)) t
     FULL JOIN ( SELECT calls.lane_id,
                CASE
                    WHEN (calls.capped_until = calls.due_at) THEN 'FREQUENCY_CAP'::text
                    ELSE public.later_reason(calls.rank)
                END AS reason,
            date_trunc('second'::text, calls.due_at) AS due_at,
            count(*) AS n
           FROM public.calls
          WHERE ((calls.state = 'waiting'::public.call_state) AND (calls.campaign_id IS NOT NULL) AND (calls.due_at >= (date_trunc('second'::text, public.clock()) + '00:00:10'::interval)))
          GROUP BY calls.lane_id,
                CASE
                    WHEN (calls.capped_until = calls.due_at) THEN 'FREQUENCY_CAP'::text
                    ELSE public.later_reason(calls.rank)
                END, (date_trunc('second'::text, calls.due_at))) c ON (((c.lane_id = t.lane_id) AND (c.reason = t.reason) AND (c.due_at = t.due_at))))
  WHERE (t.n IS DISTINCT FROM (c.n)::numeric)
UNION ALL
 SELECT 'change by plain SQL that the service does not take in'::text AS what,
    sql_changes.user_id AS id
   FROM public.sql_changes
  WHERE (sql_changes.noted_at < (public.clock() - '00:05:00'::interval))
UNION ALL
 SELECT 'day of a user with daily caps is off'::text AS what,
    COALESCE(d.user_id, a.user_id) AS id
   FROM (public.user_days d
     FULL JOIN ( SELECT attempts.user_id,
            attempts.spent_on,
            sum(attempts.charged_minutes) AS minutes
           FROM public.attempts
          WHERE (attempts.spent_on IS NOT NULL)
          GROUP BY attempts.user_id, attempts.spent_on) a ON (((a.user_id = d.user_id) AND (a.spent_on = d.day))))
  WHERE (COALESCE(d.minutes, 0) <> COALESCE(a.minutes, (0)::bigint));

COMMENT ON VIEW ops.broken IS 'Invariants that do not hold: always empty. Reads the whole queue; not for every minute.';

CREATE VIEW ops.campaigns AS
 SELECT g.id,
    g.user_id,
    g.external_id,
    g.name,
    g.schedule_id,
    g.script_id,
    g.max_concurrent_calls,
    g.max_retries,
    g.retry_delay_secs,
    g.hours_in,
    g.zone_policy,
    g.paused,
    g.created_at,
    g.updated_at,
    g.canceled_at,
        CASE
            WHEN (g.canceled_at IS NOT NULL) THEN 'canceled'::text
            WHEN (g.paused AND (((n.pending + n.in_progress) > 0) OR (n.total = 0))) THEN 'paused'::text
            WHEN ((n.total = 0) OR ((n.pending > 0) AND (n.in_progress = 0) AND (n.dials = 0))) THEN 'pending'::text
            WHEN ((n.pending + n.in_progress) > 0) THEN 'in-progress'::text
            WHEN (n.completed > 0) THEN 'completed'::text
            ELSE 'failed'::text
        END AS status,
    n.total,
    n.pending,
    n.in_progress,
    n.completed,
    n.failed,
    n.expired,
    n.canceled,
    n.retries_attempted,
    n.dials
   FROM (public.campaigns g
     CROSS JOIN LATERAL ( SELECT (COALESCE(sum(t.n) FILTER (WHERE (t.what <> ALL (ARRAY['DIALS'::text, 'RETRIES'::text]))), (0)::numeric))::bigint AS total,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'PENDING'::text)), (0)::numeric))::bigint AS pending,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'IN_PROGRESS'::text)), (0)::numeric))::bigint AS in_progress,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'COMPLETED'::text)), (0)::numeric))::bigint AS completed,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'FAILED'::text)), (0)::numeric))::bigint AS failed,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'EXPIRED'::text)), (0)::numeric))::bigint AS expired,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'CANCELED'::text)), (0)::numeric))::bigint AS canceled,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'RETRIES'::text)), (0)::numeric))::bigint AS retries_attempted,
            (COALESCE(sum(t.n) FILTER (WHERE (t.what = 'DIALS'::text)), (0)::numeric))::bigint AS dials
           FROM ( SELECT tallies.what,
                    tallies.n
                   FROM public.tallies
                  WHERE (tallies.campaign_id = g.id)
                UNION ALL
                 SELECT tally_deltas.what,
                    tally_deltas.n
                   FROM public.tally_deltas
                  WHERE (tally_deltas.campaign_id = g.id)) t) n)
  WHERE (g.deleted_at IS NULL);

COMMENT ON VIEW ops.campaigns IS 'Campaigns with their status and counts, from the tallies of their lanes: exact at any moment, however many calls.';

CREATE VIEW ops.dead_letters AS
 SELECT dead_letters.id,
    dead_letters.at,
    dead_letters.kind,
    dead_letters.subject_id,
    dead_letters.user_id,
    dead_letters.reason,
    dead_letters.detail,
    dead_letters.body
   FROM public.dead_letters;

COMMENT ON VIEW ops.dead_letters IS 'What could not be read or stored and was set aside: look at it, repair it where it came from, delete it.';

CREATE VIEW ops.expired_leases AS
 SELECT a.call_id,
    a.id AS attempt_id,
    a.state,
    a.claimed_at,
    a.instance_id,
    i.lease_until,
    i.host
   FROM (public.attempts a
     LEFT JOIN public.instances i ON ((i.id = a.instance_id)))
  WHERE ((a.ended_at IS NULL) AND (a.state = 'dialing'::public.attempt_state) AND ((i.lease_until IS NULL) OR (i.lease_until <= public.clock())));

COMMENT ON VIEW ops.expired_leases IS 'Attempts whose process died while dialing; within seconds they turn unknown.';

CREATE VIEW ops.lanes AS
 SELECT l.id AS lane_id,
    l.user_id,
    l.campaign_id,
    l.country,
    l.zones,
    o.opens_at,
    l.closes_at,
    v.held_by,
    v.closed_by,
        CASE
            WHEN ((v.held_by IS NULL) AND (v.closed_by IS NOT NULL) AND (o.opens_at > public.clock())) THEN o.opens_at
            ELSE NULL::timestamp with time zone
        END AS clears_at
   FROM (((public.lanes l
     LEFT JOIN public.quotas q ON ((q.user_id = l.user_id)))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN (q.reason = 'QUOTA_PER_DAY'::text) THEN GREATEST(l.opens_at, q.day_ends_at)
                    ELSE l.opens_at
                END AS opens_at) o)
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN l.paused THEN 'CAMPAIGN_PAUSED'::text
                    WHEN (q.reason = ANY (ARRAY['SUBSCRIPTION_INACTIVE'::text, 'QUOTA_MINUTES'::text, 'DAILY_MINUTES'::text, 'DAILY_COST'::text])) THEN q.reason
                    WHEN (l.closed_by = ANY (ARRAY['ZONE_UNKNOWN'::text, 'WINDOW_NEVER_OPENS'::text, 'DESTINATION_NOT_ALLOWED'::text, 'INVALID_NUMBER'::text])) THEN l.closed_by
                    ELSE NULL::text
                END AS held_by,
                CASE
                    WHEN ((o.opens_at > public.clock()) OR (l.closes_at <= public.clock())) THEN
                    CASE
                        WHEN ((q.reason = 'QUOTA_PER_DAY'::text) AND (q.day_ends_at > l.opens_at)) THEN q.reason
                        ELSE COALESCE(l.closed_by, 'WINDOW_CLOSED'::text)
                    END
                    ELSE NULL::text
                END AS closed_by) v);

COMMENT ON VIEW ops.lanes IS 'What holds the calls of a lane, and until when: held_by, whatever their time, until a person acts; closed_by, outside its hours.';

CREATE VIEW ops.live_calls AS
 SELECT a.call_id,
    a.id AS attempt_id,
    a.number AS attempt_number,
    a.user_id,
    a.campaign_id,
    a.lane_id,
    a.state,
    a.phone,
    a.provider,
    a.provider_call_id,
    a.claimed_at,
    (public.clock() - a.claimed_at) AS age,
    a.check_at,
    a.instance_id
   FROM public.attempts a
  WHERE (a.ended_at IS NULL);

COMMENT ON VIEW ops.live_calls IS 'Open attempts: the slots in use, and for how long.';

CREATE VIEW ops.prospects AS
 SELECT p.id,
    p.user_id,
    p.external_id,
    p.name,
    p.phone,
        CASE c.state
            WHEN 'live'::public.call_state THEN 'IN_CALL'::text
            WHEN 'waiting'::public.call_state THEN
            CASE
                WHEN ((p.status = 'RESCHEDULED'::text) AND (p.rescheduled_for IS NOT NULL)) THEN p.status
                ELSE 'SCHEDULED'::text
            END
            WHEN 'parked'::public.call_state THEN
            CASE
                WHEN ((p.status = 'RESCHEDULED'::text) AND (p.rescheduled_for IS NOT NULL)) THEN p.status
                ELSE 'SCHEDULED'::text
            END
            ELSE p.status
        END AS status,
    p.time_zone,
    p.rescheduled_for,
    p.reschedules,
    p.last_contacted_at,
    p.reached_at,
    p.disposition,
    p.variables,
    p.call_id,
    p.created_at,
    p.updated_at
   FROM (public.prospects p
     LEFT JOIN public.calls c ON (((c.prospect_id = p.id) AND (c.state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state, 'live'::public.call_state])))))
  WHERE (p.deleted_at IS NULL);

COMMENT ON VIEW ops.prospects IS 'Prospects with their status as it is now: SCHEDULED and IN_CALL follow from the open call.';

CREATE TABLE public.events (
    attempt_id uuid NOT NULL,
    key text NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    received_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    body jsonb NOT NULL
)
WITH (autovacuum_vacuum_insert_scale_factor='0.1');

COMMENT ON TABLE public.events IS 'What was said about an attempt, by webhook, poll or answer; stored in the transaction that acts on it. May hold transcripts.';

COMMENT ON COLUMN public.events.key IS 'The provider''s event id, else type and hash of the body: a second delivery changes nothing.';

CREATE VIEW ops.provider_errors AS
 SELECT e.received_at,
    e.type,
    a.provider,
    a.call_id,
    e.attempt_id,
    e.body
   FROM (public.events e
     JOIN public.attempts a ON ((a.id = e.attempt_id)))
  WHERE ((e.attempt_id >= ops.uuid_floor((public.clock() - '03:00:00'::interval))) AND (e.received_at > (public.clock() - '01:00:00'::interval)) AND (e.type = ANY (ARRAY['refused'::text, 'barred'::text, 'turned_away'::text, 'capacity'::text, 'not_sent'::text, 'doubt'::text, 'not_found'::text, 'overdue'::text])));

COMMENT ON VIEW ops.provider_errors IS 'What went wrong with the provider in the last hour.';

CREATE VIEW ops.queue AS
 SELECT c.user_id,
    c.campaign_id,
    c.lane_id,
    public.public_status(c.state) AS status,
    c.rank,
    count(*) AS calls,
    min(c.due_at) AS oldest_due_at,
    max(c.due_at) AS newest_due_at
   FROM public.calls c
  WHERE (c.state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state, 'live'::public.call_state]))
  GROUP BY c.user_id, c.campaign_id, c.lane_id, (public.public_status(c.state)), c.rank;

COMMENT ON VIEW ops.queue IS 'Open calls by user, campaign, lane, status and rank.';

CREATE VIEW ops.throughput AS
 SELECT date_trunc('minute'::text, a.claimed_at) AS minute,
    count(*) AS claimed,
    count(*) FILTER (WHERE a.dialed) AS dialed,
    count(*) FILTER (WHERE (a.state = 'ended'::public.attempt_state)) AS ended,
    count(*) FILTER (WHERE ((a.state = 'ended'::public.attempt_state) AND (a.disposition = 'COMPLETED'::text))) AS completed
   FROM public.attempts a
  WHERE (a.id >= ops.uuid_floor((public.clock() - '01:00:00'::interval)))
  GROUP BY (date_trunc('minute'::text, a.claimed_at));

COMMENT ON VIEW ops.throughput IS 'Attempts of the last hour by the minute they were claimed in.';

CREATE VIEW ops.unknown_attempts AS
 SELECT a.call_id,
    a.id AS attempt_id,
    a.provider,
    a.claimed_at,
    a.sent_at,
    (public.clock() - a.claimed_at) AS age,
    a.misses,
    a.check_at
   FROM public.attempts a
  WHERE ((a.ended_at IS NULL) AND (a.state = 'unknown'::public.attempt_state));

COMMENT ON VIEW ops.unknown_attempts IS 'Attempts in doubt: the provider may or may not have them. Looked up, never redialed on a guess.';

CREATE TABLE public.idempotency_keys (
    user_id uuid NOT NULL,
    key text NOT NULL,
    seed uuid NOT NULL,
    fingerprint bytea NOT NULL,
    started_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    status smallint,
    body bytea,
    CONSTRAINT idempotency_keys_answer_whole CHECK (((status IS NULL) = (body IS NULL)))
);

COMMENT ON TABLE public.idempotency_keys IS 'Requests that create, by Idempotency-Key. Ids of what they create come from seed, so a repeat after a crash creates nothing twice.';

CREATE TABLE public.uploads (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    campaign_id uuid,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    finished_at timestamp with time zone,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    status text DEFAULT 'receiving'::text NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    bytes_done bigint DEFAULT 0 NOT NULL,
    rows_done bigint DEFAULT 0 NOT NULL,
    accepted bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    takes integer DEFAULT 0 NOT NULL,
    error text,
    kept_bytes bigint DEFAULT 0 NOT NULL,
    CONSTRAINT uploads_kept_bytes_not_negative CHECK ((kept_bytes >= 0)),
    CONSTRAINT uploads_status_known CHECK ((status = ANY (ARRAY['receiving'::text, 'running'::text, 'done'::text, 'failed'::text])))
)
WITH (fillfactor='50');

COMMENT ON TABLE public.uploads IS 'CSV lists of numbers: stored whole before they are answered, then read row by row in the background.';

COMMENT ON COLUMN public.uploads.campaign_id IS 'The campaign the numbers are for; null: they are the user''s prospects.';

COMMENT ON COLUMN public.uploads.rows_done IS 'Rows whose verdict is stored; a crash goes on behind them.';

COMMENT ON COLUMN public.uploads.takes IS 'Readers that took it since the last verdict: a file that brings them down is given up.';

COMMENT ON COLUMN public.uploads.kept_bytes IS 'Bytes of its verdicts.';

CREATE VIEW ops.usage AS
 SELECT u.id AS user_id,
    u.external_id,
    ( SELECT (COALESCE(sum(t.n), (0)::numeric))::bigint AS "coalesce"
           FROM ( SELECT tallies.n
                   FROM public.tallies
                  WHERE ((tallies.user_id = u.id) AND (tallies.what = 'PENDING'::text))
                UNION ALL
                 SELECT tally_deltas.n
                   FROM public.tally_deltas
                  WHERE ((tally_deltas.user_id = u.id) AND (tally_deltas.what = 'PENDING'::text))) t) AS waiting_calls,
    i.waiting_calls_max,
    ( SELECT (COALESCE(sum((
                CASE
                    WHEN (p.status = ANY (ARRAY['receiving'::text, 'running'::text])) THEN p.bytes
                    ELSE (0)::bigint
                END + p.kept_bytes)), (0)::numeric))::bigint AS "coalesce"
           FROM public.uploads p
          WHERE (p.user_id = u.id)) AS upload_bytes,
    i.upload_bytes_max,
    ( SELECT COALESCE(sum(octet_length(k.body)), (0)::bigint) AS "coalesce"
           FROM public.idempotency_keys k
          WHERE (k.user_id = u.id)) AS kept_answer_bytes,
    i.kept_answer_bytes_max
   FROM (public.users u
     CROSS JOIN public.installation i);

COMMENT ON VIEW ops.usage IS 'What each user has waiting and stored, and how much that may be.';

CREATE VIEW ops.waiting AS
 SELECT c.id AS call_id,
    c.user_id,
    c.campaign_id,
    c.lane_id,
    c.rank,
    c.due_at,
    w.reason,
        CASE
            WHEN t.is_later THEN
            CASE
                WHEN (c.due_at < l.closes_at) THEN c.due_at
                ELSE NULL::timestamp with time zone
            END
            WHEN (w.reason = COALESCE(l.held_by, l.closed_by)) THEN l.clears_at
            WHEN (w.reason = s.reason) THEN s.clears_at
            ELSE NULL::timestamp with time zone
        END AS clears_at,
        CASE
            WHEN (w.reason = 'NUMBER_BUSY'::text) THEN ( SELECT (a.call_id)::text AS call_id
               FROM public.attempts a
              WHERE ((a.phone = c.phone) AND (a.ended_at IS NULL) AND (a.user_id = c.user_id)))
            ELSE NULL::text
        END AS detail
   FROM ((((((((public.calls c
     JOIN ops.lanes l ON ((l.lane_id = c.lane_id)))
     JOIN public.users u ON ((u.id = c.user_id)))
     LEFT JOIN public.campaigns g ON ((g.id = c.campaign_id)))
     LEFT JOIN ops.limits s ON (true))
     LEFT JOIN ( SELECT attempts.user_id,
            count(*) AS n
           FROM public.attempts
          WHERE (attempts.ended_at IS NULL)
          GROUP BY attempts.user_id) ul ON ((ul.user_id = c.user_id)))
     LEFT JOIN ( SELECT attempts.campaign_id,
            count(*) AS n
           FROM public.attempts
          WHERE ((attempts.ended_at IS NULL) AND (attempts.campaign_id IS NOT NULL))
          GROUP BY attempts.campaign_id) cl ON ((cl.campaign_id = c.campaign_id)))
     CROSS JOIN LATERAL ( SELECT ((c.state = 'waiting'::public.call_state) AND (c.due_at > public.clock()) AND (c.due_at >= l.opens_at) AND (l.held_by IS NULL)) AS is_later) t)
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN t.is_later THEN
                    CASE
                        WHEN (c.due_at >= l.closes_at) THEN 'WINDOW_CLOSED'::text
                        ELSE
                        CASE
                            WHEN (c.capped_until = c.due_at) THEN 'FREQUENCY_CAP'::text
                            ELSE public.later_reason(c.rank)
                        END
                    END
                    WHEN (l.held_by IS NOT NULL) THEN l.held_by
                    WHEN (l.closed_by IS NOT NULL) THEN l.closed_by
                    WHEN (EXISTS ( SELECT
                       FROM public.attempts a
                      WHERE ((a.phone = c.phone) AND (a.ended_at IS NULL)))) THEN 'NUMBER_BUSY'::text
                    WHEN (cl.n >= g.max_concurrent_calls) THEN 'CAMPAIGN_LIMIT'::text
                    WHEN (ul.n >= u.max_concurrent_calls) THEN 'USER_LIMIT'::text
                    ELSE COALESCE(s.reason, 'DUE_NOW'::text)
                END AS reason) w)
  WHERE (c.state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state]));

COMMENT ON VIEW ops.waiting IS 'Why each waiting call waits (exactly one reason), until when, and for NUMBER_BUSY which call of the same user has the number.';

CREATE TABLE public.user_settings (
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    opens time without time zone,
    closes time without time zone,
    max_attempts smallint DEFAULT 3 NOT NULL,
    script_initial text,
    script_follow_up text,
    language text,
    voice text,
    first_message text,
    zone_policy text,
    theme text,
    retry_rules jsonb DEFAULT '{}'::jsonb NOT NULL,
    external_id text,
    hours_external_id text,
    script_external_id text,
    agent_external_id text,
    CONSTRAINT user_settings_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT user_settings_hours_before_24 CHECK (((opens < '24:00:00'::time without time zone) AND (closes < '24:00:00'::time without time zone))),
    CONSTRAINT user_settings_hours_whole CHECK (((opens IS NULL) = (closes IS NULL))),
    CONSTRAINT user_settings_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 100))),
    CONSTRAINT user_settings_retry_rules_readable CHECK (public.json_is_bounded(retry_rules)),
    CONSTRAINT user_settings_texts_length CHECK (((char_length(script_initial) <= 20000) AND (char_length(script_follow_up) <= 20000) AND (char_length(first_message) <= 20000) AND (char_length(voice) <= 255) AND (char_length(language) <= 255))),
    CONSTRAINT user_settings_updated_at_computable CHECK (public.is_computable(updated_at)),
    CONSTRAINT user_settings_zone_policy_known CHECK ((zone_policy = ANY (ARRAY['user'::text, 'hold'::text])))
);

COMMENT ON TABLE public.user_settings IS 'How a user''s prospects and single calls are called: hours, scripts, the agent''s voice, retries.';

COMMENT ON COLUMN public.user_settings.opens IS 'Daily hours on the user''s own clock; closes is exclusive, closes <= opens runs past midnight. Null: none set yet.';

COMMENT ON COLUMN public.user_settings.max_attempts IS 'Dials in all for a prospect''s call.';

COMMENT ON COLUMN public.user_settings.script_initial IS 'For people nobody has spoken to yet; {prospectName} and other variables are filled in.';

COMMENT ON COLUMN public.user_settings.script_follow_up IS 'For people spoken to before, and for promised times.';

COMMENT ON COLUMN public.user_settings.retry_rules IS '{"BUSY":{"delaySeconds":60,"maxDials":2},…}: for calls outside campaigns; what is not there follows the general policy.';

COMMENT ON COLUMN public.user_settings.external_id IS 'Its id in the platform''s "Setting"; the ids of its parts follow.';

CREATE VIEW public."AdvancedSetting" AS
 SELECT COALESCE(s.hours_external_id, (s.user_id)::text) AS id,
    COALESCE(s.external_id, (s.user_id)::text) AS settingid,
    u.time_zone AS timezone,
    ('2000-01-01'::date + s.opens) AS startat,
    ('2000-01-01'::date + s.closes) AS endat
   FROM (public.user_settings s
     JOIN public.users u ON ((u.id = s.user_id)));

COMMENT ON VIEW public."AdvancedSetting" IS 'Daily hours on the user''s clock; the date of startAt and endAt means nothing.';

CREATE VIEW public."AgentSetting" AS
 SELECT COALESCE(user_settings.agent_external_id, (user_settings.user_id)::text) AS id,
    COALESCE(user_settings.external_id, (user_settings.user_id)::text) AS settingid,
    user_settings.language,
    user_settings.voice,
    user_settings.first_message AS firstmessage
   FROM public.user_settings;

COMMENT ON VIEW public."AgentSetting" IS 'The agent''s voice.';

CREATE VIEW public."Plan" AS
 SELECT COALESCE(plans.external_id, (plans.id)::text) AS id,
    plans.name,
    plans.price,
    plans.minutes,
    plans.duration_days AS duration,
    plans.per_day AS perday
   FROM public.plans;

COMMENT ON VIEW public."Plan" IS 'Plans, as the platform''s scripts write them; duration in days.';

CREATE VIEW public."Prospect" AS
 SELECT COALESCE(p.external_id, (p.id)::text) AS id,
    p.name,
    p.phone,
    COALESCE(u.external_id, (u.id)::text) AS userid,
    p.status,
    p.last_contacted_at AS lastcontacted,
    p.rescheduled_for AS rescheduledfor
   FROM (ops.prospects p
     JOIN public.users u ON ((u.id = p.user_id)));

COMMENT ON VIEW public."Prospect" IS 'Prospects, as the platform''s scripts write them; status as it is now.';

CREATE VIEW public."ScriptSetting" AS
 SELECT COALESCE(user_settings.script_external_id, (user_settings.user_id)::text) AS id,
    COALESCE(user_settings.external_id, (user_settings.user_id)::text) AS settingid,
    user_settings.script_initial AS initial,
    user_settings.script_follow_up AS followup
   FROM public.user_settings;

COMMENT ON VIEW public."ScriptSetting" IS 'Scripts of first and later contacts.';

CREATE VIEW public."Setting" AS
 SELECT COALESCE(s.external_id, (s.user_id)::text) AS id,
    COALESCE(u.external_id, (u.id)::text) AS userid,
    s.theme
   FROM (public.user_settings s
     JOIN public.users u ON ((u.id = s.user_id)));

COMMENT ON VIEW public."Setting" IS 'Settings, as the platform''s scripts write them. A user made through it has one dial for each prospect.';

CREATE VIEW public."Subscription" AS
 SELECT COALESCE(s.external_id, (s.user_id)::text) AS id,
    COALESCE(u.external_id, (u.id)::text) AS userid,
    COALESCE(p.external_id, (p.id)::text) AS planid,
    s.minutes_left AS minutesleft,
    s.status
   FROM ((public.subscriptions s
     JOIN public.users u ON ((u.id = s.user_id)))
     JOIN public.plans p ON ((p.id = s.plan_id)));

COMMENT ON VIEW public."Subscription" IS 'Subscriptions, as the platform''s scripts write them.';

CREATE VIEW public."User" AS
 SELECT COALESCE(users.external_id, (users.id)::text) AS id,
    users.name,
    users.email,
    users.clerk_id AS clerkid,
    users.created_at AS createdat,
    users.updated_at AS updatedat
   FROM public.users;

COMMENT ON VIEW public."User" IS 'Users, as the platform''s scripts write them.';

CREATE TABLE public._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);

CREATE TABLE public.api_keys (
    id uuid NOT NULL,
    user_id uuid,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    last_used_at timestamp with time zone,
    name text NOT NULL,
    hash bytea NOT NULL,
    expires_at timestamp with time zone,
    scopes text[] DEFAULT '{read,write,dial,admin}'::text[] NOT NULL,
    last_used_from inet,
    CONSTRAINT api_keys_expires_at_computable CHECK (public.is_computable(expires_at)),
    CONSTRAINT api_keys_scopes_known CHECK (((scopes <@ '{read,write,dial,admin}'::text[]) AND (cardinality(scopes) > 0)))
);

COMMENT ON TABLE public.api_keys IS 'Who may: only the SHA-256 of a key is kept. user_id null: an admin key.';

COMMENT ON COLUMN public.api_keys.expires_at IS 'It opens nothing from then on; null: never.';

COMMENT ON COLUMN public.api_keys.scopes IS 'read: see. write: change what rings no phone. dial: what may ring one. admin: keys, and what admins alone may.';

COMMENT ON COLUMN public.api_keys.last_used_from IS 'The address of the connection: a proxy''s, where there is one.';

CREATE TABLE public.appointments (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    call_id uuid NOT NULL,
    prospect_id uuid,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    starts_at timestamp with time zone,
    in_past boolean GENERATED ALWAYS AS ((starts_at < created_at)) STORED,
    CONSTRAINT appointments_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT appointments_starts_at_computable CHECK (public.is_computable(starts_at))
);

COMMENT ON TABLE public.appointments IS 'Appointments agreed in calls: one for an attempt, however often it is told.';

COMMENT ON COLUMN public.appointments.starts_at IS 'As the agent told it; null: no time was told.';

COMMENT ON COLUMN public.appointments.in_past IS 'The agent told a time that had passed when it was told.';

CREATE TABLE public.audit_log (
    id uuid DEFAULT public.uuid_v7() NOT NULL,
    at timestamp with time zone DEFAULT public.clock() NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb,
    CONSTRAINT audit_log_texts_bounded CHECK (((char_length(actor) <= 255) AND (char_length(action) <= 100) AND (char_length(subject) <= 255)))
);

COMMENT ON TABLE public.audit_log IS 'What people did by hand that the system would not do by itself: who, when, what, before and after. Never changed.';

CREATE TABLE public.deliveries (
    id uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    user_id uuid NOT NULL,
    call_id uuid,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    due_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    ended_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    last_status integer,
    state text DEFAULT 'waiting'::text NOT NULL,
    type text NOT NULL,
    last_error text,
    payload jsonb NOT NULL,
    CONSTRAINT deliveries_ended_iff_not_waiting CHECK (((ended_at IS NULL) = (state = 'waiting'::text))),
    CONSTRAINT deliveries_state_known CHECK ((state = ANY (ARRAY['waiting'::text, 'delivered'::text, 'dead'::text])))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE public.deliveries IS 'Events on their way: at least once, in order for each call and endpoint, tried for a day, then dead until replayed.';

COMMENT ON COLUMN public.deliveries.id IS 'The webhook-id: the same however often it is tried.';

COMMENT ON COLUMN public.deliveries.call_id IS 'Events of one call arrive in order; null: it is about no call.';

CREATE TABLE public.dials (
    user_id uuid NOT NULL,
    dialed_at timestamp with time zone NOT NULL,
    call_id uuid NOT NULL,
    phone text NOT NULL,
    CONSTRAINT dials_dialed_at_computable CHECK (public.is_computable(dialed_at))
);

COMMENT ON TABLE public.dials IS 'Dials by user and number (its identity): what rules about how often somebody is called are read from.';

CREATE TABLE public.installed_functions (
    is_only boolean DEFAULT true NOT NULL,
    digest text NOT NULL,
    CONSTRAINT installed_functions_one CHECK (is_only)
);

COMMENT ON TABLE public.installed_functions IS 'Which edition of sql/functions this database has: written when they are installed (outdial migrate, or a start).';

CREATE VIEW public.later_spans AS
 SELECT s.secs,
    s.within_secs
   FROM ( VALUES (1,60), (60,3600), (3600,86400), (86400,NULL::integer)) s(secs, within_secs);

COMMENT ON VIEW public.later_spans IS 'The spans of later_tallies, each with the one it is a part of.';

CREATE TABLE public.legal_hours (
    area text NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    hours jsonb NOT NULL,
    source text NOT NULL,
    as_of date NOT NULL,
    CONSTRAINT legal_hours_as_of_computable CHECK (((as_of >= '1900-01-01'::date) AND (as_of <= '9999-12-31'::date))),
    CONSTRAINT legal_hours_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT legal_hours_updated_at_computable CHECK (public.is_computable(updated_at))
);

COMMENT ON TABLE public.legal_hours IS 'When the law lets people be called, on their own clock: the rule of the zone, else of the country, else of *.';

COMMENT ON COLUMN public.legal_hours.area IS 'An IANA time zone, an ISO 3166 country, or * for everywhere else.';

CREATE TABLE public.phone_numbers (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    phone text NOT NULL,
    status text DEFAULT 'valid'::text NOT NULL,
    external_id text,
    CONSTRAINT phone_numbers_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT phone_numbers_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text)),
    CONSTRAINT phone_numbers_status_known CHECK ((status = ANY (ARRAY['valid'::text, 'invalid'::text, 'do_not_call'::text]))),
    CONSTRAINT phone_numbers_updated_at_computable CHECK (public.is_computable(updated_at))
);

COMMENT ON TABLE public.phone_numbers IS 'What a user knows of numbers. do_not_call stands in suppressions too, where the claim looks; invalid numbers enter no campaign.';

CREATE TABLE public.planner (
    only_row boolean DEFAULT true NOT NULL,
    next_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT planner_only_row CHECK (only_row)
);

COMMENT ON TABLE public.planner IS 'When the next planning batch is due, over all processes.';

CREATE TABLE public.planning (
    user_id uuid NOT NULL,
    planned_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    report jsonb
);

COMMENT ON TABLE public.planning IS 'The rotation of users whose prospects are planned: longest unplanned first.';

COMMENT ON COLUMN public.planning.report IS 'What the last batch did for this user, or why it skipped them.';

CREATE TABLE public.provider_refusals (
    provider text NOT NULL,
    user_id uuid NOT NULL,
    at timestamp with time zone DEFAULT public.clock() NOT NULL,
    n integer NOT NULL,
    reason text NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE public.provider_refusals IS 'Equal refusals of a user''s calls in a row, as all processes see them; a call that is accepted ends the row.';

COMMENT ON COLUMN public.provider_refusals.reason IS 'What was said, without digits: two refusals with the same are equal.';

CREATE TABLE public.rates (
    prefix text NOT NULL,
    per_minute numeric(12,6) NOT NULL,
    CONSTRAINT rates_per_minute_range CHECK (((per_minute >= (0)::numeric) AND (per_minute <= (100000)::numeric))),
    CONSTRAINT rates_prefix_is_digits CHECK ((prefix ~ '^[0-9]{0,15}$'::text))
);

COMMENT ON TABLE public.rates IS 'What a minute costs, by the first digits of the number without its +; the longest that fits counts, an empty one fits all. An admin loads it.';

CREATE TABLE public.schedules (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    name text NOT NULL,
    time_zone text NOT NULL,
    hours jsonb NOT NULL,
    closed_dates date[] DEFAULT '{}'::date[] NOT NULL,
    external_id text,
    CONSTRAINT schedules_closed_dates_are_a_list CHECK (((array_position(closed_dates, NULL::date) IS NULL) AND (COALESCE(array_ndims(closed_dates), 1) = 1))),
    CONSTRAINT schedules_closed_dates_computable CHECK ((('1900-01-01'::date <= ALL (closed_dates)) AND ('9999-12-31'::date >= ALL (closed_dates)))),
    CONSTRAINT schedules_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT schedules_updated_at_computable CHECK (public.is_computable(updated_at))
);

COMMENT ON TABLE public.schedules IS 'When campaigns may call, in local wall time.';

COMMENT ON COLUMN public.schedules.hours IS '[{"days":["mon",…],"opens":"09:00","closes":"17:00"}]; closes is exclusive, closes <= opens runs past midnight.';

CREATE TABLE public.scripts (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    max_duration_secs integer,
    external_id text NOT NULL,
    prompt text,
    agent_id text,
    voice text,
    language text,
    first_message text,
    tools jsonb DEFAULT '[]'::jsonb NOT NULL,
    CONSTRAINT scripts_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT scripts_max_duration_positive CHECK ((max_duration_secs > 0)),
    CONSTRAINT scripts_max_duration_range CHECK ((max_duration_secs <= 86400)),
    CONSTRAINT scripts_prompt_or_agent CHECK (((prompt IS NULL) <> (agent_id IS NULL))),
    CONSTRAINT scripts_tools_readable CHECK (public.json_is_bounded(tools, 'array'::text)),
    CONSTRAINT scripts_updated_at_computable CHECK (public.is_computable(updated_at))
);

COMMENT ON TABLE public.scripts IS 'What the agent is told: a prompt with voice and tools, or an agent kept at the provider. A call''s script_id names one by its external id or id.';

COMMENT ON COLUMN public.scripts.tools IS 'Tools in the provider''s own shape, handed on as they are; the one that reports the outcome is added.';

ALTER TABLE public.sql_changes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.sql_changes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.stray_events (
    id uuid NOT NULL,
    received_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    attempt_id uuid,
    provider_call_id text,
    key text NOT NULL,
    word jsonb NOT NULL,
    CONSTRAINT stray_events_names_something CHECK (((attempt_id IS NOT NULL) OR (provider_call_id IS NOT NULL)))
);

COMMENT ON TABLE public.stray_events IS 'Events about calls not known yet: kept, and swept until they match.';

CREATE TABLE public.test_numbers (
    phone text NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    note text,
    CONSTRAINT test_numbers_created_at_computable CHECK (public.is_computable(created_at)),
    CONSTRAINT test_numbers_note_length CHECK ((char_length(note) <= 255)),
    CONSTRAINT test_numbers_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text))
);

COMMENT ON TABLE public.test_numbers IS 'Numbers of people who test: they may be called as often as somebody likes. An admin lists them.';

CREATE TABLE public.time_zones (
    name text NOT NULL
);

COMMENT ON TABLE public.time_zones IS 'Names of time zones that settings may use.';

CREATE TABLE public.upload_parts (
    upload_id uuid NOT NULL,
    nth integer NOT NULL,
    body bytea NOT NULL
);

COMMENT ON TABLE public.upload_parts IS 'The body of an upload as it came, in pieces; dropped when it is done.';

CREATE TABLE public.upload_verdicts (
    upload_id uuid NOT NULL,
    first_row bigint NOT NULL,
    verdicts text NOT NULL
);

COMMENT ON TABLE public.upload_verdicts IS 'What became of each row, as lines of CSV, in pieces.';

CREATE TABLE public.webhook_endpoints (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    disabled_at timestamp with time zone,
    url text NOT NULL,
    secret text NOT NULL,
    events text[] NOT NULL,
    failing_since timestamp with time zone,
    failures integer DEFAULT 0 NOT NULL,
    retry_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    disabled_reason text,
    last_error text,
    previous_secret text,
    previous_secret_until timestamp with time zone,
    CONSTRAINT webhook_endpoints_disabled_for_a_reason CHECK (((disabled_at IS NULL) = (disabled_reason IS NULL))),
    CONSTRAINT webhook_endpoints_disabled_reason_known CHECK ((disabled_reason = ANY (ARRAY['REQUESTED'::text, 'GONE'::text, 'FAILING'::text]))),
    CONSTRAINT webhook_endpoints_failing_iff_failures CHECK (((failing_since IS NULL) = (failures = 0))),
    CONSTRAINT webhook_endpoints_previous_secret_ends CHECK (((previous_secret IS NULL) = (previous_secret_until IS NULL))),
    CONSTRAINT webhook_endpoints_previous_secret_until_computable CHECK (public.is_computable(previous_secret_until))
);

COMMENT ON TABLE public.webhook_endpoints IS 'Where users want events sent, and the secret they are signed with (Standard Webhooks: it has to be known here).';

COMMENT ON COLUMN public.webhook_endpoints.disabled_at IS 'Nothing is sent any more; disabled_reason says why.';

COMMENT ON COLUMN public.webhook_endpoints.failing_since IS 'The first failure since the last success; null: it is well.';

COMMENT ON COLUMN public.webhook_endpoints.failures IS 'Failures in a row. Of what was on its way at once, one counts. While there are any, one delivery at a time is tried.';

COMMENT ON COLUMN public.webhook_endpoints.retry_at IS 'Nothing is sent before. -infinity: there is nothing to wait for.';

COMMENT ON COLUMN public.webhook_endpoints.disabled_reason IS 'REQUESTED: asked for. GONE: it answered 410. FAILING: for days nothing it was sent was taken.';

COMMENT ON COLUMN public.webhook_endpoints.last_error IS 'Of the newest failure since the last success.';

COMMENT ON COLUMN public.webhook_endpoints.previous_secret IS 'Signs beside the present one until previous_secret_until.';

ALTER TABLE ONLY public._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_hash_key UNIQUE (hash);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.appointments
    ADD CONSTRAINT appointments_attempt_key UNIQUE (attempt_id);

ALTER TABLE ONLY public.appointments
    ADD CONSTRAINT appointments_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.calls
    ADD CONSTRAINT calls_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (attempt_id, key);

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key);

ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.installed_functions
    ADD CONSTRAINT installed_functions_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.instances
    ADD CONSTRAINT instances_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.lanes
    ADD CONSTRAINT lanes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.later_tallies
    ADD CONSTRAINT later_tallies_pkey PRIMARY KEY (lane_id, span_secs, starts_at, reason);

ALTER TABLE public.legal_hours
    ADD CONSTRAINT legal_hours_hours_readable CHECK (public.json_is_bounded(hours, 'array'::text)) NOT VALID;

ALTER TABLE ONLY public.legal_hours
    ADD CONSTRAINT legal_hours_pkey PRIMARY KEY (area);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_phone_key UNIQUE (user_id, phone);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.planner
    ADD CONSTRAINT planner_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.planning
    ADD CONSTRAINT planning_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_external_id_key UNIQUE (external_id);

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.prospects
    ADD CONSTRAINT prospects_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE ONLY public.prospects
    ADD CONSTRAINT prospects_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.provider_rates
    ADD CONSTRAINT provider_rates_pkey PRIMARY KEY (provider);

ALTER TABLE ONLY public.provider_refusals
    ADD CONSTRAINT provider_refusals_pkey PRIMARY KEY (provider, user_id);

ALTER TABLE ONLY public.provider_states
    ADD CONSTRAINT provider_states_pkey PRIMARY KEY (provider);

ALTER TABLE ONLY public.rates
    ADD CONSTRAINT rates_pkey PRIMARY KEY (prefix);

ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT schedules_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE public.schedules
    ADD CONSTRAINT schedules_hours_readable CHECK (public.json_is_bounded(hours, 'array'::text)) NOT VALID;

ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT schedules_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.scripts
    ADD CONSTRAINT scripts_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE ONLY public.scripts
    ADD CONSTRAINT scripts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.sql_changes
    ADD CONSTRAINT sql_changes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.stray_events
    ADD CONSTRAINT stray_events_key UNIQUE NULLS NOT DISTINCT (attempt_id, provider_call_id, key);

ALTER TABLE ONLY public.stray_events
    ADD CONSTRAINT stray_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_external_id_key UNIQUE (external_id);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.suppressions
    ADD CONSTRAINT suppressions_pkey PRIMARY KEY (phone, user_id);

ALTER TABLE ONLY public.tallies
    ADD CONSTRAINT tallies_pkey PRIMARY KEY (lane_id, what);

ALTER TABLE ONLY public.test_numbers
    ADD CONSTRAINT test_numbers_pkey PRIMARY KEY (phone);

ALTER TABLE ONLY public.time_zones
    ADD CONSTRAINT time_zones_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.upload_parts
    ADD CONSTRAINT upload_parts_pkey PRIMARY KEY (upload_id, nth);

ALTER TABLE ONLY public.upload_verdicts
    ADD CONSTRAINT upload_verdicts_pkey PRIMARY KEY (upload_id, first_row);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.user_days
    ADD CONSTRAINT user_days_pkey PRIMARY KEY (user_id, day);

ALTER TABLE ONLY public.user_settings
    ADD CONSTRAINT user_settings_external_id_key UNIQUE (external_id);

ALTER TABLE ONLY public.user_settings
    ADD CONSTRAINT user_settings_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.user_turns
    ADD CONSTRAINT user_turns_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_email_key UNIQUE (email);

ALTER TABLE public.users
    ADD CONSTRAINT users_external_id_is_no_uuid CHECK ((external_id !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'::text)) NOT VALID;

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_external_id_key UNIQUE (external_id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (id);

CREATE INDEX api_keys_by_user ON public.api_keys USING btree (user_id, id);

CREATE INDEX appointments_by_user ON public.appointments USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX attempts_by_provider_call ON public.attempts USING btree (provider_call_id) WHERE (provider_call_id IS NOT NULL);

CREATE INDEX attempts_by_record ON public.attempts USING btree (record_at) WHERE (record_at IS NOT NULL);

CREATE UNIQUE INDEX attempts_number_key ON public.attempts USING btree (call_id, number) WHERE (call_id IS NOT NULL);

CREATE UNIQUE INDEX attempts_one_per_phone ON public.attempts USING btree (phone) WHERE (ended_at IS NULL);

CREATE INDEX attempts_reserved ON public.attempts USING btree (user_id) WHERE ((ended_at IS NULL) AND (reserved_minutes IS NOT NULL));

CREATE INDEX audit_log_by_subject ON public.audit_log USING btree (subject, id);

CREATE INDEX calls_by_campaign ON public.calls USING btree (campaign_id, id) WHERE (campaign_id IS NOT NULL);

CREATE INDEX calls_by_phone ON public.calls USING btree (phone, id) WHERE (phone IS NOT NULL);

CREATE INDEX calls_by_user ON public.calls USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX calls_capped ON public.calls USING btree (lane_id, due_at) WHERE (capped_until = due_at);

CREATE INDEX calls_ended ON public.calls USING btree (state, id) WHERE (ended_at > '-infinity'::timestamp with time zone);

CREATE INDEX calls_ended_by_campaign ON public.calls USING btree (campaign_id, state, id) WHERE ((campaign_id IS NOT NULL) AND (state = ANY (ARRAY['completed'::public.call_state, 'failed'::public.call_state, 'expired'::public.call_state, 'canceled'::public.call_state])));

CREATE INDEX calls_ended_by_user ON public.calls USING btree (user_id, state, id) WHERE (ended_at IS NOT NULL);

CREATE INDEX calls_expiring ON public.calls USING btree (expires_at) WHERE ((state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state])) AND (expires_at IS NOT NULL));

CREATE UNIQUE INDEX calls_external_id_key ON public.calls USING btree (user_id, external_id) WHERE (external_id IS NOT NULL);

CREATE INDEX calls_of_prospects ON public.calls USING btree (user_id, due_at) WHERE ((prospect_id IS NOT NULL) AND (state = 'waiting'::public.call_state));

CREATE UNIQUE INDEX calls_once_in_campaign ON public.calls USING btree (campaign_id, phone) WHERE (campaign_id IS NOT NULL);

CREATE UNIQUE INDEX calls_one_open_per_prospect ON public.calls USING btree (prospect_id) WHERE ((prospect_id IS NOT NULL) AND (state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state, 'live'::public.call_state])));

CREATE INDEX calls_parked ON public.calls USING btree (phone, lane_id, rank, due_at, id) WHERE (state = 'parked'::public.call_state);

CREATE INDEX calls_pending ON public.calls USING btree (id) WHERE ((state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state])) AND (ended_at IS NULL));

CREATE INDEX calls_pending_by_user ON public.calls USING btree (user_id, id) WHERE (state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state]));

CREATE INDEX calls_waiting ON public.calls USING btree (lane_id, rank, due_at, id) WHERE (state = 'waiting'::public.call_state);

CREATE INDEX campaigns_by_external_id ON public.campaigns USING btree (external_id, user_id) WHERE (external_id IS NOT NULL);

CREATE INDEX campaigns_by_schedule ON public.campaigns USING btree (schedule_id) WHERE (schedule_id IS NOT NULL);

CREATE INDEX campaigns_by_user ON public.campaigns USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX campaigns_to_sweep ON public.campaigns USING btree (id) WHERE ((canceled_at IS NOT NULL) AND (swept_at IS NULL));

CREATE INDEX dead_letters_by_age ON public.dead_letters USING btree (at);

CREATE INDEX deliveries_ended ON public.deliveries USING btree (ended_at) WHERE (ended_at IS NOT NULL);

CREATE INDEX deliveries_in_order ON public.deliveries USING btree (endpoint_id, call_id, id) WHERE (state = 'waiting'::text);

CREATE INDEX deliveries_of_endpoint ON public.deliveries USING btree (endpoint_id, id);

CREATE INDEX deliveries_of_endpoint_due ON public.deliveries USING btree (endpoint_id, due_at, id) WHERE (state = 'waiting'::text);

COMMENT ON INDEX public.deliveries_of_endpoint_due IS 'What one endpoint is to be told next, and which endpoints are to be told anything, without reading what else waits.';

CREATE INDEX dials_of_number ON public.dials USING btree (user_id, phone, dialed_at) INCLUDE (call_id);

CREATE INDEX idempotency_keys_by_age ON public.idempotency_keys USING btree (started_at);

CREATE INDEX lanes_blocked ON public.lanes USING btree (blocked_on, user_id, campaign_id) WHERE (blocked_on IS NOT NULL);

CREATE INDEX lanes_of_campaign ON public.lanes USING btree (campaign_id) WHERE (campaign_id IS NOT NULL);

CREATE UNIQUE INDEX lanes_of_user_key ON public.lanes USING btree (user_id, campaign_id, country, zones, destination) NULLS NOT DISTINCT WHERE (zones IS NOT NULL);

CREATE INDEX lanes_refresh ON public.lanes USING btree (refresh_at) WHERE (refresh_at < 'infinity'::timestamp with time zone);

CREATE INDEX lanes_ring ON public.lanes USING btree (user_id, next_at) WHERE (user_id IS NOT NULL);

CREATE INDEX lanes_unsorted ON public.lanes USING btree (id) WHERE (country = '?'::text);

CREATE INDEX lanes_urgent ON public.lanes USING btree (urgent_at) WHERE (urgent_at < 'infinity'::timestamp with time zone);

CREATE INDEX later_deltas_of_lane ON public.later_deltas USING btree (lane_id);

CREATE INDEX later_tallies_past ON public.later_tallies USING btree (span_secs, starts_at) WHERE (n IS NOT NULL);

CREATE INDEX phone_numbers_by_external_id ON public.phone_numbers USING btree (external_id, user_id) WHERE (external_id IS NOT NULL);

CREATE INDEX phone_numbers_list ON public.phone_numbers USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX planning_rotation ON public.planning USING btree (planned_at, user_id);

CREATE INDEX prospects_list ON public.prospects USING btree (user_id, id) WHERE (deleted_at IS NULL);

CREATE UNIQUE INDEX prospects_phone_key ON public.prospects USING btree (user_id, phone) WHERE (deleted_at IS NULL);

CREATE INDEX prospects_to_plan ON public.prospects USING btree (user_id, ((status <> 'RESCHEDULED'::text)), ((refused_at IS NOT NULL)), COALESCE(last_contacted_at, '-infinity'::timestamp with time zone), reschedules, created_at, id) WHERE ((status = ANY (ARRAY['INITIAL'::text, 'RESCHEDULED'::text])) AND (rescheduled_for IS NULL) AND (deleted_at IS NULL));

CREATE INDEX schedules_by_external_id ON public.schedules USING btree (external_id, user_id) WHERE (external_id IS NOT NULL);

CREATE INDEX schedules_by_user ON public.schedules USING btree (user_id, id);

CREATE INDEX sql_changes_of_user ON public.sql_changes USING btree (user_id, id);

CREATE INDEX stray_events_by_provider_call ON public.stray_events USING btree (provider_call_id);

CREATE INDEX subscriptions_by_plan ON public.subscriptions USING btree (plan_id);

CREATE INDEX subscriptions_day ON public.subscriptions USING btree (day_ends_at) WHERE (status = 'ACTIVE'::text);

CREATE INDEX subscriptions_period ON public.subscriptions USING btree (period_ends_at) WHERE (status = 'ACTIVE'::text);

CREATE INDEX suppressions_by_user ON public.suppressions USING btree (user_id, phone) WHERE (user_id IS NOT NULL);

CREATE INDEX suppressions_uncanonical ON public.suppressions USING btree (phone, user_id) WHERE (NOT canonical);

CREATE INDEX tallies_by_campaign ON public.tallies USING btree (campaign_id) WHERE (campaign_id IS NOT NULL);

CREATE INDEX tallies_by_user ON public.tallies USING btree (user_id, campaign_id);

CREATE INDEX uploads_by_user ON public.uploads USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX uploads_open ON public.uploads USING btree (lease_until, id) WHERE (status = 'running'::text);

CREATE INDEX user_turns_ring ON public.user_turns USING btree (next_at) WHERE (next_at IS NOT NULL);

CREATE INDEX users_with_daily_caps ON public.users USING btree (id) WHERE ((daily_minutes_max IS NOT NULL) OR (daily_cost_max IS NOT NULL));

CREATE INDEX webhook_endpoints_by_user ON public.webhook_endpoints USING btree (user_id, id);

CREATE TRIGGER appointments_tell_endpoints AFTER INSERT ON public.appointments FOR EACH ROW EXECUTE FUNCTION public.appointments_tell_endpoints();

CREATE TRIGGER attempts_make_appointments AFTER UPDATE OF disposition ON public.attempts FOR EACH ROW WHEN (((new.disposition = 'APPOINTMENT_SET'::text) AND (old.disposition IS DISTINCT FROM new.disposition))) EXECUTE FUNCTION public.attempts_make_appointments();

CREATE TRIGGER attempts_settle_minutes AFTER UPDATE OF state, duration_secs, dialed ON public.attempts FOR EACH ROW WHEN (((new.reserved_minutes IS NOT NULL) AND (new.ended_at IS NOT NULL))) EXECUTE FUNCTION public.attempts_settle_minutes();

CREATE TRIGGER attempts_take_back_dial AFTER UPDATE OF state, dialed ON public.attempts FOR EACH ROW WHEN (((new.ended_at IS NOT NULL) AND ((NOT new.dialed) OR ((old.ended_at IS NOT NULL) AND (NOT old.dialed))))) EXECUTE FUNCTION public.attempts_take_back_dial();

CREATE TRIGGER calls_count_later AFTER UPDATE OF state, due_at, lane_id, rank ON public.calls FOR EACH ROW WHEN (((new.campaign_id IS NOT NULL) AND (((old.state = 'waiting'::public.call_state) AND (old.due_at > public.clock())) OR ((new.state = 'waiting'::public.call_state) AND (new.due_at > public.clock()))) AND ((((old.state IS DISTINCT FROM new.state) OR (old.due_at IS DISTINCT FROM new.due_at)) OR (old.lane_id IS DISTINCT FROM new.lane_id)) OR (old.rank IS DISTINCT FROM new.rank)))) EXECUTE FUNCTION public.calls_count_later();

CREATE TRIGGER calls_count_later_new AFTER INSERT ON public.calls FOR EACH ROW WHEN (((new.campaign_id IS NOT NULL) AND (new.state = 'waiting'::public.call_state) AND (new.due_at > public.clock()))) EXECUTE FUNCTION public.calls_count_later();

CREATE TRIGGER calls_tell_endpoints AFTER UPDATE ON public.calls REFERENCING OLD TABLE AS stale NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION public.calls_tell_endpoints();

CREATE TRIGGER calls_tell_prospects AFTER UPDATE OF state, disposition, dials ON public.calls FOR EACH ROW WHEN (((new.prospect_id IS NOT NULL) AND (((new.state <> old.state) AND (new.state <> 'live'::public.call_state)) OR (new.disposition IS DISTINCT FROM old.disposition) OR (new.dials <> old.dials)))) EXECUTE FUNCTION public.calls_tell_prospects();

CREATE TRIGGER endpoints_tell_endpoints AFTER UPDATE ON public.webhook_endpoints FOR EACH ROW WHEN (((old.disabled_reason IS NULL) AND (new.disabled_reason = ANY (ARRAY['FAILING'::text, 'GONE'::text])))) EXECUTE FUNCTION public.endpoints_tell_endpoints();

CREATE TRIGGER plans_lock BEFORE UPDATE ON public.plans FOR EACH STATEMENT EXECUTE FUNCTION public.take_admission_lock();

CREATE TRIGGER plans_wake AFTER UPDATE ON public.plans FOR EACH ROW EXECUTE FUNCTION public.plans_wake();

CREATE TRIGGER platform_write_plan INSTEAD OF INSERT OR DELETE OR UPDATE ON public."Plan" FOR EACH ROW EXECUTE FUNCTION public.platform_write_plan();

CREATE TRIGGER platform_write_prospect INSTEAD OF INSERT OR DELETE OR UPDATE ON public."Prospect" FOR EACH ROW EXECUTE FUNCTION public.platform_write_prospect();

CREATE TRIGGER platform_write_setting INSTEAD OF INSERT OR DELETE OR UPDATE ON public."AdvancedSetting" FOR EACH ROW EXECUTE FUNCTION public.platform_write_setting();

CREATE TRIGGER platform_write_setting INSTEAD OF INSERT OR DELETE OR UPDATE ON public."AgentSetting" FOR EACH ROW EXECUTE FUNCTION public.platform_write_setting();

CREATE TRIGGER platform_write_setting INSTEAD OF INSERT OR DELETE OR UPDATE ON public."ScriptSetting" FOR EACH ROW EXECUTE FUNCTION public.platform_write_setting();

CREATE TRIGGER platform_write_setting INSTEAD OF INSERT OR DELETE OR UPDATE ON public."Setting" FOR EACH ROW EXECUTE FUNCTION public.platform_write_setting();

CREATE TRIGGER platform_write_subscription INSTEAD OF INSERT OR DELETE OR UPDATE ON public."Subscription" FOR EACH ROW EXECUTE FUNCTION public.platform_write_subscription();

CREATE TRIGGER platform_write_user INSTEAD OF INSERT OR DELETE OR UPDATE ON public."User" FOR EACH ROW EXECUTE FUNCTION public.platform_write_user();

CREATE TRIGGER prospects_lock BEFORE INSERT OR DELETE OR UPDATE OF status, rescheduled_for, phone, name, time_zone, variables, deleted_at ON public.prospects FOR EACH STATEMENT EXECUTE FUNCTION public.take_admission_lock();

CREATE TRIGGER prospects_name_promises BEFORE INSERT OR UPDATE OF status, rescheduled_for ON public.prospects FOR EACH ROW EXECUTE FUNCTION public.prospects_name_promises();

CREATE TRIGGER prospects_steer_calls AFTER UPDATE OF status, rescheduled_for, phone, name, time_zone, variables, deleted_at ON public.prospects FOR EACH ROW WHEN ((((((((old.status IS DISTINCT FROM new.status) OR (old.rescheduled_for IS DISTINCT FROM new.rescheduled_for)) OR (old.phone IS DISTINCT FROM new.phone)) OR (old.name IS DISTINCT FROM new.name)) OR (old.time_zone IS DISTINCT FROM new.time_zone)) OR (old.variables IS DISTINCT FROM new.variables)) OR (old.deleted_at IS DISTINCT FROM new.deleted_at))) EXECUTE FUNCTION public.prospects_steer_calls();

CREATE TRIGGER prospects_steer_calls_new AFTER INSERT ON public.prospects FOR EACH ROW EXECUTE FUNCTION public.prospects_steer_calls();

CREATE TRIGGER subscriptions_let_go AFTER DELETE ON public.subscriptions FOR EACH ROW EXECUTE FUNCTION public.subscriptions_let_go();

CREATE TRIGGER subscriptions_lock BEFORE INSERT OR DELETE OR UPDATE OF status, plan_id, minutes_left, period_ends_at, day_ends_at ON public.subscriptions FOR EACH STATEMENT EXECUTE FUNCTION public.take_admission_lock();

CREATE TRIGGER subscriptions_wake AFTER INSERT OR UPDATE OF status, plan_id, period_ends_at, day_ends_at ON public.subscriptions FOR EACH ROW EXECUTE FUNCTION public.subscriptions_wake();

CREATE TRIGGER user_settings_join_planning AFTER INSERT ON public.user_settings FOR EACH ROW EXECUTE FUNCTION public.user_settings_join_planning();

CREATE TRIGGER user_settings_reopen AFTER INSERT OR UPDATE OF opens, closes, zone_policy ON public.user_settings FOR EACH ROW EXECUTE FUNCTION public.user_settings_reopen();

CREATE TRIGGER users_get_a_lane AFTER INSERT ON public.users FOR EACH ROW EXECUTE FUNCTION public.users_get_a_lane();

CREATE TRIGGER users_reopen AFTER UPDATE OF time_zone ON public.users FOR EACH ROW WHEN ((old.time_zone IS DISTINCT FROM new.time_zone)) EXECUTE FUNCTION public.users_reopen();

CREATE TRIGGER users_reopen_destinations AFTER UPDATE OF allowed_countries, allowed_destinations ON public.users FOR EACH ROW WHEN (((old.allowed_countries IS DISTINCT FROM new.allowed_countries) OR (old.allowed_destinations IS DISTINCT FROM new.allowed_destinations))) EXECUTE FUNCTION public.users_reopen_destinations();

CREATE TRIGGER users_wake AFTER UPDATE OF max_concurrent_calls, daily_minutes_max, daily_cost_max ON public.users FOR EACH ROW WHEN (((NOT public.is_service()) AND (((old.max_concurrent_calls IS DISTINCT FROM new.max_concurrent_calls) OR (old.daily_minutes_max IS DISTINCT FROM new.daily_minutes_max)) OR (old.daily_cost_max IS DISTINCT FROM new.daily_cost_max)))) EXECUTE FUNCTION public.users_wake();

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_schedule_fkey FOREIGN KEY (schedule_id) REFERENCES public.schedules(id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

ALTER TABLE ONLY public.planning
    ADD CONSTRAINT planning_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.prospects
    ADD CONSTRAINT prospects_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT schedules_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

ALTER TABLE ONLY public.scripts
    ADD CONSTRAINT scripts_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_plan_fkey FOREIGN KEY (plan_id) REFERENCES public.plans(id);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_days
    ADD CONSTRAINT user_days_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.user_settings
    ADD CONSTRAINT user_settings_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.webhook_endpoints
    ADD CONSTRAINT webhook_endpoints_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('1', 'create clock and words', true, E'\\xe76a76a0f3f12818b0dab4aea0c970b284ad5a65e64c1fbcb413aa2af14b230109b2f09567ffd03283b314b4c22e3ea3', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('2', 'create users campaigns lanes', true, E'\\x175733813c19d3b58d8d5708dc3b3516e9d175dfad48c38239b2f9c3a27fc575dc7dc3b12718843c00c1961b421918d2', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('3', 'create calls', true, E'\\x4edf990fc0af9b3c9b044b86f5583d236dca62dd9ce3070cfb7738f3514cfdb28232ee64bfaca3cd6ffc099784cbc04a', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('4', 'create attempts events', true, E'\\x45615ade1115fbde40d45a4f559cd354a84940515f69a4118e78e9d305b73614534a1e627da09d3bd3583b31e001835c', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('5', 'create service tables', true, E'\\x6224c545199b935b9a3d6e9b7b89f404ddc0948fd12abbe919135499e78430d174bb4d6f3ac218d1933862ab21ece2dd', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('6', 'create people', true, E'\\x3acec013ed196e783d4dafd2b7e1f685768846a87cb4f6c61436126dc8144cf44d168db37dff5011396dc01c80dc5efd', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('7', 'create enqueue', true, E'\\xc0e08a8e426007fba5f4a94d7c8778ef8ceefc2ead7b655313334b60ab3fd2e0769b251c9d6c1dc29e0bd7793ac62076', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('8', 'create outbox', true, E'\\x0bf665ac5aab3e211936719f32b091980b583a02997300e1f1e131294c3f0e29b2a53494634eb41072a472f4f4767f48', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('9', 'create ops views', true, E'\\x3020e118adb97ab2539775075ec21c100e9795e9cc587e977d869e27ae7b8f35c1d8af3d5bf6f6e0f5074e6e05716272', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('10', 'create platform views', true, E'\\x930f10c8e88aeda7a9b1febca68ba09f632b39ab1d4240dd00a177fe983f39fffb322c53a68f8306b733fd87b88d7e4b', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('11', 'bound what comes in', true, E'\\x153ffdaaaded3584588dcab5388f3e0808d21dd012e4e637c4e621eee08bb4bce5076d36f86639116e95b9de8a5e5ef1', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('12', 'outbox shares', true, E'\\x1d3cfabbec08e134e2ff5fbea7845bf1bff46e52b48fa71b4f5b22504a557c553ad7c2a56cba94606851fe486cf20100', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('13', 'list indexes', true, E'\\x57cc211cd1163071c263c0bc104df58afb335f19ad49eaafa65bbcf0c399e3acd00e1832f2db77e0c5b9763cb6de7815', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('14', 'admission from outside', true, E'\\xcbd5e7c53691d91bfeeac71bbe2ebbc5fd5062b46044b47896fb2c4954cd6e677e624fd41d09d6569e50c54d6282bbe7', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('15', 'operate', true, E'\\xac7a16ccf410dba520a6cfc7be9a7f6ee284a6d57bc4a0060fc6dc78c7015bea5f07506d9ce2fe213a342789b659f402', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('16', 'refusals in a row', true, E'\\x390925614078935f6169fa8cc5ca1c7cf4914c74ed1e8a2e0c600d602635c75c90543716234fa8afd08989e6baa42c4c', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('17', 'tenants storage', true, E'\\x88d9e840808fb4953c5014c19813eb95bafd87ed4beb5d5e2ea4007f7e7c15d6faf693600190fb0a72768d1731c99422', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('18', 'keys end', true, E'\\x08699eb8ed1167802e0e6725106c96c918910d1f3829d007fbd2c7cdc06e1326c7d815b78cd175dbcbb51b59e49b4f2e', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('19', 'opt outs and bounds', true, E'\\x72c6f1401f77b2dcf90f6edcaa95182827e6785a5d3a713ba7acae2e50b08abb3c4cdb6af16ef0fdfbc285b73ad9dd2e', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('20', 'unheld users', true, E'\\x2e9b995c75fa6935ca15872a9379c329346df57ca51323f2665a54889b352461fd6438e609d1d1fcd71897b08a1a65e0', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('21', 'numbers and destinations', true, E'\\x6fcaeb10314eb06611bac5e45f091701386b9ab62aa28f107fcf94fa6bf58158061f684c791623a09e89544fa382a468', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('22', 'probes and dials', true, E'\\x4c4c0f78ef5c4a2f52c8fec113549f608f0a19e6ec2176fd1fd56a5d6cafe563800628c3ffc83d8bcfa256dbb6397602', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('23', 'prospects need a subscription', true, E'\\x71251e1b898fb2ba94c8f0db752321ecfdda6470c3743db6dad791bfffd376c75833eb1061e14e1f604902f49417b749', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('24', 'scopes of keys', true, E'\\xcf0ff5dec34769794617be6c50c00721cb905743807fa4ebc145a7369e05621ebdc15c6c144cb7f51319b7c54c17c185', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('25', 'sql changes', true, E'\\x720966e04cc4393cf4c35430a35f472f30df341a8eed881cb99f1e73e3634aca28124269aa9725bcbb378c55fbb74c4c', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('26', 'what users may name', true, E'\\xef322eb3e32a83a8d314f6706b9d3020288407da53ac1365921764ea959f96d0039fd630c7adc40d5017e550ab47a50a', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('27', 'endpoint secrets rotate', true, E'\\x29088c7d742b263c3005a089ba46155cbd492cf02ec963e41ca86eb62a6d0e10915af61ee911aeca9df253cc1747f826', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('28', 'daily caps', true, E'\\x28386809680cd781f8ac0ce15f5878a6c697010a1939832d30d7c8af4f988afa8869974181255d67625a07769bb126c3', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('29', 'what roles may', true, E'\\x30c54fd8b6ef8534da44355d31274233980971d7b22e0951ca8e55e89ffaf63ee0672b106e5bdc1e642beb4afb382440', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('30', 'limits by sql wake', true, E'\\x6bf5962c1721aeb19278a18a6fec141860f76a1999a0e09c4db3b82b695980cddff5cbec60493126b1762c2de30b2b7a', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('31', 'functions of their own', true, E'\\x740ca6f94c29a46789292cc25f4508acd569ade557b8c2905f5402eb1b3c9cb7dbaccf681bbe76faf96bb6dfa9f62ae3', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('32', 'checks without functions', true, E'\\x806850059989b4724f2a77db4bf7f4ea3fab5ad04a124da59244981dcdedc5f9f060c8892b9d421ecc0a675e392dc209', 0);
insert into public.legal_hours (area, hours, source, as_of) values ('*', '[{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "opens": "08:00", "closes": "21:00"}]', '47 CFR 64.1200(c)(1), taken for everywhere', '2026-11-21');
insert into public.planner default values;
insert into public.users (id, name, external_id) values ('00000000-0000-7000-8000-000000000001', 'Operator', 'operator');
