-- The schema of a new database, dumped from the migrations by `make schema` and held true by tests/it/schema.rs.
-- Loads into an empty database: psql -d name -f sql/schema.sql; the service then starts on it.

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
    LANGUAGE plpgsql
    AS $_$
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
$_$;

COMMENT ON FUNCTION ops.enqueue("to" text, script_id text, metadata jsonb, scheduled_at timestamp with time zone, priority text, expires_at timestamp with time zone, "user" text, external_id text, max_attempts integer) IS 'The supported door for plain SQL: normalizes the number, finds the lane, takes the admission lock, wakes the workers.';

CREATE FUNCTION ops.explain(campaign uuid) RETURNS TABLE(reason text, count bigint, clears_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    AS $$
#variable_conflict use_column
begin
  return query
  with lane as materialized (
    select
      l.*,
      coalesce((select sum(t.n) from public.tallies t where t.lane_id = l.id and t.what = 'PENDING'), 0)
        + coalesce((select sum(d.n) from public.tally_deltas d where d.lane_id = l.id and d.what = 'PENDING'), 0) as pending
    from public.lanes l
    where l.campaign_id = campaign
  ),
  judged as materialized (
    select
      id, opens_at, pending,
      case when paused then 'CAMPAIGN_PAUSED' when closed_by in ('ZONE_UNKNOWN', 'WINDOW_NEVER_OPENS') then closed_by end as for_people,
      opens_at > clock() or closes_at <= clock() as is_closed, coalesce(closed_by, 'WINDOW_CLOSED') as closed_by
    from lane
    where pending <> 0
  ),
  later as materialized (
    select j.id, r.rank, q.n, q.first
    from judged j
    cross join generate_series(0, 4) as r(rank)
    cross join lateral (
      select count(*) as n, min(c.due_at) as first from public.calls c
      where c.lane_id = j.id and c.state = 'waiting' and c.rank = r.rank::smallint
        and c.due_at > clock() and c.due_at >= j.opens_at
    ) q
    where j.for_people is null and q.n > 0
  ),
  busy as materialized (
    select c.lane_id as id, count(*) as n
    from public.attempts a
    join public.calls c on c.campaign_id = campaign and c.phone = a.phone and c.state in ('waiting', 'parked')
    join judged j on j.id = c.lane_id and j.for_people is null and not j.is_closed
    where a.ended_at is null and c.due_at <= clock()
    group by c.lane_id
  ),
  rest as materialized (
    select
      j.id, j.is_closed, j.closed_by, j.opens_at,
      j.pending - coalesce((select sum(n) from later l where l.id = j.id), 0) - coalesce((select n from busy b where b.id = j.id), 0) as n
    from judged j
    where j.for_people is null
  ),
  limits as materialized (
    select
      case
        when (select count(*) from public.attempts where campaign_id = campaign and ended_at is null) >= g.max_concurrent_calls then 'CAMPAIGN_LIMIT'
        when (select count(*) from public.attempts where user_id = g.user_id and ended_at is null) >= u.max_concurrent_calls then 'USER_LIMIT'
        when s.global_live >= s.global_max then 'GLOBAL_LIMIT'
        when s.hold_reason is not null then s.hold_reason
        when s.token_at is not null then 'PROVIDER_RATE'
        else 'DUE_NOW'
      end as reason,
      s.hold_until, s.token_at
    from public.campaigns g
    join public.users u on u.id = g.user_id
    left join ops.limits s on true
    where g.id = campaign
  )
  select all_reasons.reason, sum(n)::bigint, min(all_reasons.clears_at)
  from (
    select for_people as reason, pending as n, null::timestamptz as clears_at from judged where for_people is not null
    union all
    select case when rank = 2 then 'RETRY_LATER' else 'SCHEDULED_LATER' end, n, first from later
    union all
    select 'NUMBER_BUSY', n, null from busy
    union all
    select closed_by, n, case when opens_at > clock() then opens_at end from rest where is_closed
    union all
    select m.reason, r.n, case when m.reason in ('PROVIDER_CAPACITY', 'BREAKER_OPEN') then m.hold_until
                               when m.reason = 'PROVIDER_RATE' then m.token_at end
    from rest r cross join limits m where not r.is_closed
  ) all_reasons
  group by all_reasons.reason
  having sum(n) <> 0;
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

CREATE FUNCTION public.clock() RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select coalesce(nullif(current_setting('outdial.now', true), '')::timestamptz, statement_timestamp()) $$;

COMMENT ON FUNCTION public.clock() IS 'The time every decision is made by: statement_timestamp(), unless the session sets outdial.now.';

CREATE FUNCTION public.enqueue(ids uuid[], user_ids uuid[], lane_ids uuid[], campaign_ids uuid[], ranks smallint[], priorities smallint[], due_ats timestamp with time zone[], expires_ats timestamp with time zone[], phones text[], script_ids text[], metadata jsonb[], variables jsonb[], external_ids text[], time_zones text[], ignore_windows boolean[], dials_maxes smallint[], rejects boolean[]) RETURNS TABLE(nth bigint, suppressed boolean, twin_id uuid, created_at timestamp with time zone, due_at timestamp with time zone)
    LANGUAGE plpgsql
    AS $_$
#variable_conflict use_column
begin
  -- A statement of its own, before the one that reads: that one sees what was committed by then.
  perform pg_advisory_xact_lock_shared(7001);
  -- Two creators that each refuse duplicates must not both see none. Sorted, so that they never wait for each other.
  if true = any ($17) then
    perform pg_advisory_xact_lock(7002, hashtext(phone))
    from (select distinct p.phone from unnest($9, $17) as p(phone, reject) where p.reject order by p.phone) numbers;
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
      $9::text[], $10::text[], $11::jsonb[], $12::jsonb[], $13::text[], $14::text[], $15::bool[], $16::smallint[], $17::bool[]
    ) with ordinality as i(
      id, user_id, lane_id, campaign_id, rank, priority, due_at, expires_at,
      phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max, reject, nth
    )
  ),
  created as (
    insert into calls (
      id, user_id, lane_id, campaign_id, state, rank, priority, due_at, created_at, updated_at, expires_at,
      phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max
    )
    select
      i.id, i.user_id, i.lane_id, i.campaign_id,
      case when coalesce(i.due_at, n.at) <= n.at
             and exists (select from attempts a where a.phone = i.phone and a.ended_at is null)
           then 'parked'::call_state else 'waiting' end,
      i.rank, i.priority, coalesce(i.due_at, n.at), n.at, n.at, i.expires_at,
      i.phone, i.script_id, i.metadata, i.variables, i.external_id, i.time_zone, i.ignore_window, i.dials_max
    from item i
    cross join now n
    where not i.suppressed and i.twin_id is null
    order by i.nth
    on conflict do nothing
    returning id, user_id, lane_id, campaign_id, state, rank, due_at, created_at
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

COMMENT ON FUNCTION public.enqueue(ids uuid[], user_ids uuid[], lane_ids uuid[], campaign_ids uuid[], ranks smallint[], priorities smallint[], due_ats timestamp with time zone[], expires_ats timestamp with time zone[], phones text[], script_ids text[], metadata jsonb[], variables jsonb[], external_ids text[], time_zones text[], ignore_windows boolean[], dials_maxes smallint[], rejects boolean[]) IS 'Puts calls into their lanes, a verdict each in their order: created_at and due_at of one that was created, suppressed for one on a do-not-call list, twin_id when a second call was refused, none of them when its id or external id exists. A null due_at is now. A call that is due for a busy number is parked at once.';

CREATE FUNCTION public.public_status(state public.call_state) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case state
    when 'waiting' then 'PENDING' when 'parked' then 'PENDING' when 'live' then 'IN_PROGRESS'
    when 'completed' then 'COMPLETED' when 'failed' then 'FAILED' when 'expired' then 'EXPIRED' when 'canceled' then 'CANCELED'
  end
$$;

COMMENT ON FUNCTION public.public_status(state public.call_state) IS 'PENDING, IN_PROGRESS, COMPLETED, FAILED, EXPIRED or CANCELED.';

CREATE FUNCTION public.users_get_a_lane() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
  insert into user_turns (user_id) values (new.id);
  insert into lanes (id, user_id) values (new.id, new.id);
  return null;
end
$$;

COMMENT ON FUNCTION public.users_get_a_lane() IS 'Every user has a place in the ring and a lane for single calls, whose id is the user''s.';

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
    claimed_at timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    accepted_at timestamp with time zone,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    check_at timestamp with time zone NOT NULL,
    hang_up_at timestamp with time zone,
    phone text NOT NULL,
    provider text NOT NULL,
    provider_call_id text,
    disposition text,
    hangup_cause text,
    told jsonb,
    transcript text,
    CONSTRAINT attempts_duration_not_negative CHECK ((duration_secs >= 0)),
    CONSTRAINT attempts_ended_at_iff_ended CHECK (((ended_at IS NOT NULL) = (state = 'ended'::public.attempt_state))),
    CONSTRAINT attempts_number_positive CHECK ((number > 0))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_insert_scale_factor='0.05');

COMMENT ON TABLE public.attempts IS 'One time we dialed for a call, also called conversation. Committed before the provider is asked; open rows are the slots.';

COMMENT ON COLUMN public.attempts.instance_id IS 'The process that dials it; its lease is in instances.';

COMMENT ON COLUMN public.attempts.revision IS 'Grows with every settled change; a decision names the revision it was made on.';

COMMENT ON COLUMN public.attempts.weight IS 'Strength of the evidence behind disposition: 0 none, 1 ours, 2 bare status, 3 carrier cause, 4 explicit outcome.';

COMMENT ON COLUMN public.attempts.misses IS 'Look-ups in a row that found nothing, each after the quiet time.';

COMMENT ON COLUMN public.attempts.dialed IS 'Whether it counts as a dial.';

COMMENT ON COLUMN public.attempts.sent_at IS 'The latest moment at which the request may have left us, known only in doubt.';

COMMENT ON COLUMN public.attempts.check_at IS 'When the provider is asked about it next, should no word come before.';

COMMENT ON COLUMN public.attempts.hang_up_at IS 'When the provider is to be asked to hang up.';

COMMENT ON COLUMN public.attempts.told IS 'The explicit outcome as told, during the call or after.';

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
    CONSTRAINT calls_dials_max_range CHECK (((dials_max >= 1) AND (dials_max <= 1000))),
    CONSTRAINT calls_dials_within_attempts CHECK (((dials >= 0) AND (dials <= attempt_number))),
    CONSTRAINT calls_ended_at_iff_final CHECK (((ended_at IS NOT NULL) = (state = ANY (ARRAY['completed'::public.call_state, 'failed'::public.call_state, 'expired'::public.call_state, 'canceled'::public.call_state])))),
    CONSTRAINT calls_expired_never_dialed CHECK (((state <> 'expired'::public.call_state) OR (dials = 0))),
    CONSTRAINT calls_live_has_attempt CHECK (((state <> 'live'::public.call_state) OR (attempt_number > 0))),
    CONSTRAINT calls_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text)),
    CONSTRAINT calls_priority_known CHECK ((priority = ANY (ARRAY[1, 3, 4]))),
    CONSTRAINT calls_rank_known CHECK (((rank >= 0) AND (rank <= 4)))
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

CREATE TABLE public.campaigns (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    schedule_id uuid,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    canceled_at timestamp with time zone,
    deleted_at timestamp with time zone,
    max_concurrent_calls integer DEFAULT 5 NOT NULL,
    max_retries integer DEFAULT 3 NOT NULL,
    retry_delay_secs integer DEFAULT 300 NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    name text NOT NULL,
    script_id text NOT NULL,
    hours_in text DEFAULT 'schedule'::text NOT NULL,
    zone_policy text,
    external_id text,
    CONSTRAINT campaigns_hours_in_known CHECK ((hours_in = ANY (ARRAY['schedule'::text, 'callee'::text]))),
    CONSTRAINT campaigns_max_concurrent_calls_positive CHECK ((max_concurrent_calls > 0)),
    CONSTRAINT campaigns_max_retries_range CHECK (((max_retries >= 0) AND (max_retries <= 100))),
    CONSTRAINT campaigns_retry_delay_range CHECK (((retry_delay_secs >= 0) AND (retry_delay_secs <= 31536000))),
    CONSTRAINT campaigns_zone_policy_known CHECK ((zone_policy = ANY (ARRAY['user'::text, 'hold'::text])))
);

COMMENT ON TABLE public.campaigns IS 'A list of calls with one script, its own limits and retry rules.';

COMMENT ON COLUMN public.campaigns.canceled_at IS 'Canceled for good: its waiting calls are ended in the background.';

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
    CONSTRAINT lanes_blocked_on_known CHECK ((blocked_on = ANY (ARRAY['pause'::text, 'window'::text, 'campaign'::text, 'user'::text, 'quota'::text]))),
    CONSTRAINT lanes_blocked_sleeps CHECK (((blocked_on IS NULL) OR ((next_at = 'infinity'::timestamp with time zone) AND (urgent_at = 'infinity'::timestamp with time zone)))),
    CONSTRAINT lanes_closed_by_known CHECK ((closed_by = ANY (ARRAY['WINDOW_CLOSED'::text, 'CLOSED_DATE'::text, 'LEGAL_HOURS'::text, 'ZONE_UNKNOWN'::text, 'WINDOW_NEVER_OPENS'::text]))),
    CONSTRAINT lanes_opens_before_it_closes CHECK ((opens_at < closes_at))
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

CREATE TABLE public.user_turns (
    user_id uuid NOT NULL,
    next_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    blocked_on text,
    CONSTRAINT user_turns_blocked_on_known CHECK ((blocked_on = ANY (ARRAY['user'::text, 'quota'::text]))),
    CONSTRAINT user_turns_blocked_sleeps CHECK (((blocked_on IS NULL) OR (next_at = 'infinity'::timestamp with time zone)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

COMMENT ON TABLE public.user_turns IS 'The ring of users: whose lanes are looked at next. Fairness is between users, not lanes.';

COMMENT ON COLUMN public.user_turns.next_at IS 'Never later than the earliest next_at of the user''s lanes, unless blocked_on says why.';

CREATE TABLE public.users (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    max_concurrent_calls integer,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    name text NOT NULL,
    external_id text,
    email text,
    time_zone text,
    CONSTRAINT users_max_concurrent_calls_positive CHECK ((max_concurrent_calls > 0))
);

COMMENT ON TABLE public.users IS 'Tenants. Everything else belongs to one of them; calls of nobody in particular belong to the operator.';

COMMENT ON COLUMN public.users.max_concurrent_calls IS 'Live calls this user may have at once; null: only the global limit counts.';

COMMENT ON COLUMN public.users.external_id IS 'The id other systems know this user by.';

COMMENT ON COLUMN public.users.time_zone IS 'The zone that stands in for callees whose own is unknown, where the zone policy allows it.';

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
          WHERE (g.id = l.campaign_id)))) OR ((l.blocked_on = 'user'::text) AND (( SELECT count(*) AS count
           FROM public.attempts a
          WHERE ((a.user_id = l.user_id) AND (a.ended_at IS NULL))) < COALESCE(( SELECT u.max_concurrent_calls
           FROM public.users u
          WHERE (u.id = l.user_id)), 2147483647))))
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
  WHERE (t.n IS DISTINCT FROM c.n);

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
            WHEN ((n.pending = n.total) AND (n.dials = 0)) THEN 'pending'::text
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

CREATE TABLE public.instances (
    id uuid NOT NULL,
    started_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    role text NOT NULL,
    host text NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE public.instances IS 'Running processes. One lease a process, renewed while it lives; the id is new at every start.';

COMMENT ON COLUMN public.instances.lease_until IS 'Past it, attempts this process was dialing are in doubt.';

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

CREATE TABLE public.installation (
    only_row boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    token_key bytea NOT NULL,
    max_concurrent_calls integer DEFAULT 30 NOT NULL,
    provider text DEFAULT 'simulator'::text NOT NULL,
    dials_per_second double precision DEFAULT 0 NOT NULL,
    CONSTRAINT installation_only_row CHECK (only_row)
);

COMMENT ON TABLE public.installation IS 'The one row every process of this installation shares.';

COMMENT ON COLUMN public.installation.token_key IS 'Key of the HMAC that makes the token in webhook URLs.';

COMMENT ON COLUMN public.installation.max_concurrent_calls IS 'The global limit in force, as the newest process was told it; for views. The claim is given it by the process.';

COMMENT ON COLUMN public.installation.provider IS 'The provider in force; for views.';

COMMENT ON COLUMN public.installation.dials_per_second IS 'The rate in force; for views.';

CREATE TABLE public.provider_holds (
    provider text NOT NULL,
    hold_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    reason text,
    failures integer DEFAULT 0 NOT NULL,
    CONSTRAINT provider_holds_reason_known CHECK ((reason = ANY (ARRAY['PROVIDER_CAPACITY'::text, 'BREAKER_OPEN'::text])))
);

COMMENT ON TABLE public.provider_holds IS 'No claim for this provider until hold_until: it said it is full, or could not be reached.';

COMMENT ON COLUMN public.provider_holds.failures IS 'Requests in a row that never reached it; the hold doubles with each.';

CREATE TABLE public.provider_rates (
    provider text NOT NULL,
    tokens double precision NOT NULL,
    counted_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

COMMENT ON TABLE public.provider_rates IS 'Token buckets: dials a provider may be asked for at once, as of counted_at. Only the claim takes, under the admission lock.';

CREATE VIEW ops.limits AS
 SELECT i.provider,
    i.max_concurrent_calls AS global_max,
    ( SELECT count(*) AS count
           FROM public.attempts
          WHERE (attempts.ended_at IS NULL)) AS global_live,
    h.reason AS hold_reason,
    h.hold_until,
    (r.counted_at + make_interval(secs => (((1)::double precision - r.tokens) / NULLIF(i.dials_per_second, (0)::double precision)))) AS token_at
   FROM ((public.installation i
     LEFT JOIN public.provider_holds h ON (((h.provider = i.provider) AND (h.hold_until > public.clock()))))
     LEFT JOIN public.provider_rates r ON (((r.provider = i.provider) AND (i.dials_per_second > (0)::double precision) AND ((r.tokens + (i.dials_per_second * (EXTRACT(epoch FROM (public.clock() - r.counted_at)))::double precision)) < (1)::double precision))));

COMMENT ON VIEW ops.limits IS 'What holds for all calls at once: slots, holds of the provider, and when its next token is there.';

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
  WHERE ((e.attempt_id >= ops.uuid_floor((public.clock() - '03:00:00'::interval))) AND (e.received_at > (public.clock() - '01:00:00'::interval)) AND (e.type = ANY (ARRAY['refused'::text, 'capacity'::text, 'not_sent'::text, 'doubt'::text, 'not_found'::text, 'overdue'::text])));

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

CREATE VIEW ops.waiting AS
 WITH user_live AS (
         SELECT attempts.user_id,
            count(*) AS n
           FROM public.attempts
          WHERE (attempts.ended_at IS NULL)
          GROUP BY attempts.user_id
        ), campaign_live AS (
         SELECT attempts.campaign_id,
            count(*) AS n
           FROM public.attempts
          WHERE ((attempts.ended_at IS NULL) AND (attempts.campaign_id IS NOT NULL))
          GROUP BY attempts.campaign_id
        )
 SELECT c.id AS call_id,
    c.user_id,
    c.campaign_id,
    c.lane_id,
    c.rank,
    c.due_at,
    w.reason,
        CASE
            WHEN (w.reason = ANY (ARRAY['SCHEDULED_LATER'::text, 'RETRY_LATER'::text])) THEN c.due_at
            WHEN (w.reason = ANY (ARRAY['WINDOW_CLOSED'::text, 'CLOSED_DATE'::text, 'LEGAL_HOURS'::text])) THEN
            CASE
                WHEN (l.opens_at > public.clock()) THEN l.opens_at
                ELSE NULL::timestamp with time zone
            END
            WHEN (w.reason = ANY (ARRAY['PROVIDER_CAPACITY'::text, 'BREAKER_OPEN'::text])) THEN s.hold_until
            WHEN (w.reason = 'PROVIDER_RATE'::text) THEN s.token_at
            ELSE NULL::timestamp with time zone
        END AS clears_at,
        CASE
            WHEN (w.reason = 'NUMBER_BUSY'::text) THEN ( SELECT (a.call_id)::text AS call_id
               FROM public.attempts a
              WHERE ((a.phone = c.phone) AND (a.ended_at IS NULL) AND (a.user_id = c.user_id)))
            ELSE NULL::text
        END AS detail
   FROM (((((((public.calls c
     JOIN public.lanes l ON ((l.id = c.lane_id)))
     JOIN public.users u ON ((u.id = c.user_id)))
     LEFT JOIN public.campaigns g ON ((g.id = c.campaign_id)))
     LEFT JOIN ops.limits s ON (true))
     LEFT JOIN user_live ul ON ((ul.user_id = c.user_id)))
     LEFT JOIN campaign_live cl ON ((cl.campaign_id = c.campaign_id)))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN l.paused THEN 'CAMPAIGN_PAUSED'::text
                    WHEN (l.closed_by = ANY (ARRAY['ZONE_UNKNOWN'::text, 'WINDOW_NEVER_OPENS'::text])) THEN l.closed_by
                    WHEN ((c.due_at > public.clock()) AND (c.due_at >= l.opens_at)) THEN
                    CASE
                        WHEN (c.rank = 2) THEN 'RETRY_LATER'::text
                        ELSE 'SCHEDULED_LATER'::text
                    END
                    WHEN ((l.opens_at > public.clock()) OR (l.closes_at <= public.clock())) THEN COALESCE(l.closed_by, 'WINDOW_CLOSED'::text)
                    WHEN (EXISTS ( SELECT
                       FROM public.attempts a
                      WHERE ((a.phone = c.phone) AND (a.ended_at IS NULL)))) THEN 'NUMBER_BUSY'::text
                    WHEN (COALESCE(cl.n, (0)::bigint) >= g.max_concurrent_calls) THEN 'CAMPAIGN_LIMIT'::text
                    WHEN (COALESCE(ul.n, (0)::bigint) >= u.max_concurrent_calls) THEN 'USER_LIMIT'::text
                    WHEN (s.global_live >= s.global_max) THEN 'GLOBAL_LIMIT'::text
                    WHEN (s.hold_reason IS NOT NULL) THEN s.hold_reason
                    WHEN (s.token_at IS NOT NULL) THEN 'PROVIDER_RATE'::text
                    ELSE 'DUE_NOW'::text
                END AS reason) w)
  WHERE (c.state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state]));

COMMENT ON VIEW ops.waiting IS 'Why each waiting call waits (exactly one reason), until when, and for NUMBER_BUSY which call of the same user has the number.';

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
    hash bytea NOT NULL
);

COMMENT ON TABLE public.api_keys IS 'Who may: only the SHA-256 of a key is kept. user_id null: an admin key.';

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

CREATE TABLE public.legal_hours (
    area text NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    hours jsonb NOT NULL,
    source text NOT NULL,
    as_of date NOT NULL
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
    CONSTRAINT phone_numbers_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text)),
    CONSTRAINT phone_numbers_status_known CHECK ((status = ANY (ARRAY['valid'::text, 'invalid'::text, 'do_not_call'::text])))
);

COMMENT ON TABLE public.phone_numbers IS 'What a user knows of numbers. do_not_call stands in suppressions too, where the claim looks; invalid numbers enter no campaign.';

CREATE TABLE public.schedules (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    name text NOT NULL,
    time_zone text NOT NULL,
    hours jsonb NOT NULL,
    closed_dates date[] DEFAULT '{}'::date[] NOT NULL,
    external_id text
);

COMMENT ON TABLE public.schedules IS 'When campaigns may call, in local wall time.';

COMMENT ON COLUMN public.schedules.hours IS '[{"days":["mon",…],"opens":"09:00","closes":"17:00"}]; closes is exclusive, closes <= opens runs past midnight.';

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

CREATE TABLE public.suppressions (
    phone text NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    reason text,
    CONSTRAINT suppressions_phone_e164 CHECK ((phone ~ '^\+[1-9][0-9]{6,14}$'::text))
);

COMMENT ON TABLE public.suppressions IS 'Numbers that must not be called (do-not-call), by a user or, under the operator, by anybody. The claim itself looks here.';

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

CREATE TABLE public.uploads (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    finished_at timestamp with time zone,
    lease_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    status text DEFAULT 'receiving'::text NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    bytes_done bigint DEFAULT 0 NOT NULL,
    rows_done bigint DEFAULT 0 NOT NULL,
    accepted bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    error text,
    CONSTRAINT uploads_status_known CHECK ((status = ANY (ARRAY['receiving'::text, 'running'::text, 'done'::text, 'failed'::text])))
)
WITH (fillfactor='50');

COMMENT ON TABLE public.uploads IS 'CSV lists of numbers: stored whole before they are answered, then read row by row in the background.';

COMMENT ON COLUMN public.uploads.rows_done IS 'Rows whose verdict is stored; a crash goes on behind them.';

ALTER TABLE ONLY public._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_hash_key UNIQUE (hash);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.calls
    ADD CONSTRAINT calls_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (attempt_id, key);

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key);

ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.instances
    ADD CONSTRAINT instances_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.lanes
    ADD CONSTRAINT lanes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.legal_hours
    ADD CONSTRAINT legal_hours_pkey PRIMARY KEY (area);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_phone_key UNIQUE (user_id, phone);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.provider_holds
    ADD CONSTRAINT provider_holds_pkey PRIMARY KEY (provider);

ALTER TABLE ONLY public.provider_rates
    ADD CONSTRAINT provider_rates_pkey PRIMARY KEY (provider);

ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT schedules_external_id_key UNIQUE (user_id, external_id);

ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT schedules_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.stray_events
    ADD CONSTRAINT stray_events_key UNIQUE NULLS NOT DISTINCT (attempt_id, provider_call_id, key);

ALTER TABLE ONLY public.stray_events
    ADD CONSTRAINT stray_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.suppressions
    ADD CONSTRAINT suppressions_pkey PRIMARY KEY (phone, user_id);

ALTER TABLE ONLY public.tallies
    ADD CONSTRAINT tallies_pkey PRIMARY KEY (lane_id, what);

ALTER TABLE ONLY public.upload_parts
    ADD CONSTRAINT upload_parts_pkey PRIMARY KEY (upload_id, nth);

ALTER TABLE ONLY public.upload_verdicts
    ADD CONSTRAINT upload_verdicts_pkey PRIMARY KEY (upload_id, first_row);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.user_turns
    ADD CONSTRAINT user_turns_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_email_key UNIQUE (email);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_external_id_key UNIQUE (external_id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

CREATE INDEX attempts_by_provider_call ON public.attempts USING btree (provider_call_id) WHERE (provider_call_id IS NOT NULL);

CREATE UNIQUE INDEX attempts_number_key ON public.attempts USING btree (call_id, number) WHERE (call_id IS NOT NULL);

CREATE UNIQUE INDEX attempts_one_per_phone ON public.attempts USING btree (phone) WHERE (ended_at IS NULL);

CREATE INDEX calls_by_campaign ON public.calls USING btree (campaign_id, id) WHERE (campaign_id IS NOT NULL);

CREATE INDEX calls_by_phone ON public.calls USING btree (phone, id) WHERE (phone IS NOT NULL);

CREATE INDEX calls_by_user ON public.calls USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX calls_expiring ON public.calls USING btree (expires_at) WHERE ((state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state])) AND (expires_at IS NOT NULL));

CREATE UNIQUE INDEX calls_external_id_key ON public.calls USING btree (user_id, external_id) WHERE (external_id IS NOT NULL);

CREATE UNIQUE INDEX calls_once_in_campaign ON public.calls USING btree (campaign_id, phone) WHERE (campaign_id IS NOT NULL);

CREATE INDEX calls_parked ON public.calls USING btree (phone, lane_id, rank, due_at, id) WHERE (state = 'parked'::public.call_state);

CREATE INDEX calls_pending ON public.calls USING btree (id) WHERE (state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state]));

CREATE INDEX calls_unhappy ON public.calls USING btree (state, id) WHERE (state = ANY (ARRAY['failed'::public.call_state, 'expired'::public.call_state, 'canceled'::public.call_state]));

CREATE INDEX calls_waiting ON public.calls USING btree (lane_id, rank, due_at, id) WHERE (state = 'waiting'::public.call_state);

CREATE INDEX campaigns_by_schedule ON public.campaigns USING btree (schedule_id) WHERE (schedule_id IS NOT NULL);

CREATE INDEX campaigns_by_user ON public.campaigns USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX idempotency_keys_by_age ON public.idempotency_keys USING btree (started_at);

CREATE INDEX lanes_blocked ON public.lanes USING btree (blocked_on, user_id, campaign_id) WHERE (blocked_on IS NOT NULL);

CREATE INDEX lanes_of_campaign ON public.lanes USING btree (campaign_id) WHERE (campaign_id IS NOT NULL);

CREATE UNIQUE INDEX lanes_of_user_key ON public.lanes USING btree (user_id, campaign_id, country, zones) NULLS NOT DISTINCT WHERE (zones IS NOT NULL);

CREATE INDEX lanes_refresh ON public.lanes USING btree (refresh_at) WHERE (refresh_at < 'infinity'::timestamp with time zone);

CREATE INDEX lanes_ring ON public.lanes USING btree (user_id, next_at) WHERE (user_id IS NOT NULL);

CREATE INDEX lanes_urgent ON public.lanes USING btree (urgent_at) WHERE (urgent_at < 'infinity'::timestamp with time zone);

CREATE INDEX phone_numbers_list ON public.phone_numbers USING btree (user_id, id) WHERE (user_id IS NOT NULL);

CREATE INDEX schedules_by_user ON public.schedules USING btree (user_id, id);

CREATE INDEX stray_events_by_provider_call ON public.stray_events USING btree (provider_call_id);

CREATE INDEX suppressions_by_user ON public.suppressions USING btree (user_id, phone) WHERE (user_id IS NOT NULL);

CREATE INDEX tallies_by_campaign ON public.tallies USING btree (campaign_id) WHERE (campaign_id IS NOT NULL);

CREATE INDEX tallies_by_user ON public.tallies USING btree (user_id, campaign_id);

CREATE INDEX uploads_open ON public.uploads USING btree (id) WHERE (status = 'running'::text);

CREATE INDEX user_turns_ring ON public.user_turns USING btree (next_at) WHERE (next_at IS NOT NULL);

CREATE TRIGGER users_get_a_lane AFTER INSERT ON public.users FOR EACH ROW EXECUTE FUNCTION public.users_get_a_lane();

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_schedule_fkey FOREIGN KEY (schedule_id) REFERENCES public.schedules(id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

ALTER TABLE ONLY public.phone_numbers
    ADD CONSTRAINT phone_numbers_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT schedules_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('1', 'create clock and words', true, E'\\x9bd404090e97beb1ab7a653441ac0940d50542c5d5cc6486fc9ad4ef5bf59f39f30ac82e82a9c54a1e13c3a5ddb519f2', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('2', 'create users campaigns lanes', true, E'\\x2c0449c81913b4e96d166e45577c3b12c6d8cfb737fa7270e0f5fa003f01479e238d5eb375def0183819ac440a9ff354', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('3', 'create calls', true, E'\\xbf347cdf75b877cf9db86f482352e27fc4e782ec7dd03637bbeeedeb09cfa168cab629a2bbe598fc12085c060880d10c', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('4', 'create attempts events', true, E'\\x3f717dc018a874196e152f9c3ee818e70cab3ce9dc5e9d40468ffb5b7fa656da3b084d8494198666447aee6b504e393d', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('5', 'create service tables', true, E'\\xc547a04227ecd9e40ed594ff5f4a6f7b23a824651acd041bd2fadab0bcb8668a352a820ddf2f796ab945b05fe326750a', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('6', 'create enqueue', true, E'\\xc8156207bf9562b58ac588a8585cd410f3b6b2a757b81e9d5463ec01e736d2dde16372aab6cd8b12150af28067c57187', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('7', 'create ops views', true, E'\\xfab01132644a37d0e963e112325ad16fca6e5430add64e42c1fd23e4bd1c7cf8a9832efb176c2e597604b7b0d4f2e8b4', 0);
insert into public.users (id, name, external_id) values ('00000000-0000-7000-8000-000000000001', 'Operator', 'operator');
