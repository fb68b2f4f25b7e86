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
    insert into tally_deltas (user_id, campaign_id, what, n)
    select user_id, campaign_id, 'PENDING', count(*) from created group by user_id, campaign_id
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
    user_id uuid NOT NULL,
    campaign_id uuid,
    what text NOT NULL,
    n bigint NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.tallies IS 'Folded counts: calls by public status, and RETRIES, by user and campaign.';

CREATE TABLE public.tally_deltas (
    user_id uuid NOT NULL,
    campaign_id uuid,
    what text NOT NULL,
    n bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000');

COMMENT ON TABLE public.tally_deltas IS 'Counts not folded yet; appended by the statement that moved the calls.';

CREATE VIEW ops.tallies AS
 SELECT t.user_id,
    t.campaign_id,
    t.what,
    (sum(t.n))::bigint AS n
   FROM ( SELECT tallies.user_id,
            tallies.campaign_id,
            tallies.what,
            tallies.n
           FROM public.tallies
        UNION ALL
         SELECT tally_deltas.user_id,
            tally_deltas.campaign_id,
            tally_deltas.what,
            tally_deltas.n
           FROM public.tally_deltas) t
  GROUP BY t.user_id, t.campaign_id, t.what;

COMMENT ON VIEW ops.tallies IS 'Calls by status (and RETRIES) of each user and campaign, exact at any moment.';

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

COMMENT ON COLUMN public.calls.attempt_number IS 'Number of the newest attempt; only grows. With the call id it names the attempt that may still change this call.';

COMMENT ON COLUMN public.calls.due_at IS 'Not before this time.';

COMMENT ON COLUMN public.calls.expires_at IS 'Not after this time: EXPIRED when nothing was dialed by then, FAILED with the last disposition otherwise.';

COMMENT ON COLUMN public.calls.cancel_requested_at IS 'Cancel asked while live: the hang-up is asked of the provider and nothing is retried.';

COMMENT ON COLUMN public.calls.time_zone IS 'The callee''s zone as given with the call.';

CREATE TABLE public.campaigns (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    max_concurrent_calls integer DEFAULT 5 NOT NULL,
    max_retries integer DEFAULT 3 NOT NULL,
    retry_delay_secs integer DEFAULT 300 NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    name text NOT NULL,
    script_id text NOT NULL,
    external_id text,
    CONSTRAINT campaigns_max_concurrent_calls_positive CHECK ((max_concurrent_calls > 0)),
    CONSTRAINT campaigns_max_retries_range CHECK (((max_retries >= 0) AND (max_retries <= 100))),
    CONSTRAINT campaigns_retry_delay_range CHECK (((retry_delay_secs >= 0) AND (retry_delay_secs <= 31536000)))
);

COMMENT ON TABLE public.campaigns IS 'A list of calls with one script, its own limits and retry rules.';

COMMENT ON COLUMN public.campaigns.max_retries IS 'Dials after the first; max_dials of its calls is one more.';

COMMENT ON COLUMN public.campaigns.paused IS 'Nothing of it is dialed; its lanes carry the same flag, so that the claim looks at lanes alone.';

CREATE TABLE public.lanes (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    campaign_id uuid,
    next_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    urgent_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    opens_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    closes_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    blocked_on text,
    zones text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT lanes_blocked_on_known CHECK ((blocked_on = ANY (ARRAY['pause'::text, 'window'::text, 'campaign'::text, 'user'::text, 'quota'::text]))),
    CONSTRAINT lanes_blocked_sleeps CHECK (((blocked_on IS NULL) OR ((next_at = 'infinity'::timestamp with time zone) AND (urgent_at = 'infinity'::timestamp with time zone)))),
    CONSTRAINT lanes_opens_before_it_closes CHECK ((opens_at < closes_at))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

COMMENT ON TABLE public.lanes IS 'Calls that may be dialed under the same rules: one campaign (or one user''s single calls) x one set of candidate zones.';

COMMENT ON COLUMN public.lanes.next_at IS 'When this lane deserves a look; infinity: asleep. Never later than its first due call unless blocked_on says why.';

COMMENT ON COLUMN public.lanes.urgent_at IS 'When its first call of rank 0 or 1 falls due; such lanes are read before the ring.';

COMMENT ON COLUMN public.lanes.opens_at IS 'Start of the current or next calling window.';

COMMENT ON COLUMN public.lanes.closes_at IS 'End of that window, exclusive. Past it the lane is closed until the scheduler writes the next: late means closed.';

COMMENT ON COLUMN public.lanes.blocked_on IS 'Why it sleeps although calls may be due; whatever frees or raises that wakes it. Never a global or provider reason.';

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
    name text NOT NULL,
    external_id text,
    email text,
    CONSTRAINT users_max_concurrent_calls_positive CHECK ((max_concurrent_calls > 0))
);

COMMENT ON TABLE public.users IS 'Tenants. Everything else belongs to one of them; calls of nobody in particular belong to the operator.';

COMMENT ON COLUMN public.users.max_concurrent_calls IS 'Live calls this user may have at once; null: only the global limit counts.';

COMMENT ON COLUMN public.users.external_id IS 'The id other systems know this user by.';

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
  WHERE (((l.blocked_on = 'pause'::text) AND (NOT l.paused)) OR ((l.blocked_on = 'campaign'::text) AND (( SELECT count(*) AS count
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
    COALESCE(t.user_id, c.user_id) AS id
   FROM (( SELECT tallies.user_id,
            tallies.campaign_id,
            tallies.what,
            tallies.n
           FROM ops.tallies
          WHERE ((tallies.what <> 'RETRIES'::text) AND (tallies.n <> 0))) t
     FULL JOIN ( SELECT calls.user_id,
            calls.campaign_id,
            public.public_status(calls.state) AS what,
            min(calls.state) AS state,
            count(*) AS n
           FROM public.calls
          GROUP BY calls.user_id, calls.campaign_id, (public.public_status(calls.state))) c ON (((c.user_id = t.user_id) AND (NOT (c.campaign_id IS DISTINCT FROM t.campaign_id)) AND (c.what = t.what))))
  WHERE (t.n IS DISTINCT FROM c.n);

COMMENT ON VIEW ops.broken IS 'Invariants that do not hold: always empty. Reads the whole queue; not for every minute.';

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

CREATE TABLE public.installation (
    only_row boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT public.clock() NOT NULL,
    token_key bytea NOT NULL,
    max_concurrent_calls integer DEFAULT 30 NOT NULL,
    provider text DEFAULT 'simulator'::text NOT NULL,
    CONSTRAINT installation_only_row CHECK (only_row)
);

COMMENT ON TABLE public.installation IS 'The one row every process of this installation shares.';

COMMENT ON COLUMN public.installation.token_key IS 'Key of the HMAC that makes the token in webhook URLs.';

COMMENT ON COLUMN public.installation.max_concurrent_calls IS 'The global limit in force, as the newest process was told it; for views. The claim is given it by the process.';

COMMENT ON COLUMN public.installation.provider IS 'The provider in force; for views.';

CREATE TABLE public.provider_holds (
    provider text NOT NULL,
    hold_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    reason text,
    failures integer DEFAULT 0 NOT NULL,
    CONSTRAINT provider_holds_reason_known CHECK ((reason = ANY (ARRAY['PROVIDER_CAPACITY'::text, 'BREAKER_OPEN'::text])))
);

COMMENT ON TABLE public.provider_holds IS 'No claim for this provider until hold_until: it said it is full, or could not be reached.';

COMMENT ON COLUMN public.provider_holds.failures IS 'Requests in a row that never reached it; the hold doubles with each.';

CREATE VIEW ops.waiting AS
 WITH limits AS (
         SELECT i.max_concurrent_calls AS global_max,
            i.provider,
            ( SELECT count(*) AS count
                   FROM public.attempts
                  WHERE (attempts.ended_at IS NULL)) AS global_live
           FROM public.installation i
        ), user_live AS (
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
            WHEN (w.reason = ANY (ARRAY['SCHEDULED_LATER'::text, 'RETRY_LATER'::text, 'WINDOW_CLOSED'::text])) THEN NULLIF(GREATEST(c.due_at,
            CASE
                WHEN (l.closes_at <= public.clock()) THEN 'infinity'::timestamp with time zone
                ELSE l.opens_at
            END), 'infinity'::timestamp with time zone)
            WHEN (w.reason = ANY (ARRAY['PROVIDER_CAPACITY'::text, 'BREAKER_OPEN'::text])) THEN h.hold_until
            ELSE NULL::timestamp with time zone
        END AS clears_at,
        CASE
            WHEN (w.reason = 'NUMBER_BUSY'::text) THEN ( SELECT (a.call_id)::text AS call_id
               FROM public.attempts a
              WHERE ((a.phone = c.phone) AND (a.ended_at IS NULL) AND (a.user_id = c.user_id)))
            ELSE NULL::text
        END AS detail
   FROM ((((((((public.calls c
     JOIN public.lanes l ON ((l.id = c.lane_id)))
     JOIN public.users u ON ((u.id = c.user_id)))
     LEFT JOIN public.campaigns g ON ((g.id = c.campaign_id)))
     LEFT JOIN limits s ON (true))
     LEFT JOIN user_live ul ON ((ul.user_id = c.user_id)))
     LEFT JOIN campaign_live cl ON ((cl.campaign_id = c.campaign_id)))
     LEFT JOIN public.provider_holds h ON (((h.provider = s.provider) AND (h.hold_until > public.clock()))))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN l.paused THEN 'CAMPAIGN_PAUSED'::text
                    WHEN (l.closes_at <= public.clock()) THEN 'WINDOW_CLOSED'::text
                    WHEN ((l.opens_at > public.clock()) AND (l.opens_at >= c.due_at)) THEN 'WINDOW_CLOSED'::text
                    WHEN (c.due_at > public.clock()) THEN
                    CASE
                        WHEN (c.rank = 2) THEN 'RETRY_LATER'::text
                        ELSE 'SCHEDULED_LATER'::text
                    END
                    WHEN (EXISTS ( SELECT
                       FROM public.attempts a
                      WHERE ((a.phone = c.phone) AND (a.ended_at IS NULL)))) THEN 'NUMBER_BUSY'::text
                    WHEN (COALESCE(cl.n, (0)::bigint) >= g.max_concurrent_calls) THEN 'CAMPAIGN_LIMIT'::text
                    WHEN (COALESCE(ul.n, (0)::bigint) >= u.max_concurrent_calls) THEN 'USER_LIMIT'::text
                    WHEN (s.global_live >= s.global_max) THEN 'GLOBAL_LIMIT'::text
                    WHEN (h.reason IS NOT NULL) THEN h.reason
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

ALTER TABLE ONLY public.provider_holds
    ADD CONSTRAINT provider_holds_pkey PRIMARY KEY (provider);

ALTER TABLE ONLY public.stray_events
    ADD CONSTRAINT stray_events_key UNIQUE NULLS NOT DISTINCT (attempt_id, provider_call_id, key);

ALTER TABLE ONLY public.stray_events
    ADD CONSTRAINT stray_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.suppressions
    ADD CONSTRAINT suppressions_pkey PRIMARY KEY (phone, user_id);

ALTER TABLE ONLY public.tallies
    ADD CONSTRAINT tallies_key UNIQUE NULLS NOT DISTINCT (user_id, campaign_id, what);

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

CREATE INDEX calls_parked ON public.calls USING btree (phone, lane_id, rank, due_at, id) WHERE (state = 'parked'::public.call_state);

CREATE INDEX calls_pending ON public.calls USING btree (id) WHERE (state = ANY (ARRAY['waiting'::public.call_state, 'parked'::public.call_state]));

CREATE INDEX calls_unhappy ON public.calls USING btree (state, id) WHERE (state = ANY (ARRAY['failed'::public.call_state, 'expired'::public.call_state, 'canceled'::public.call_state]));

CREATE INDEX calls_waiting ON public.calls USING btree (lane_id, rank, due_at, id) WHERE (state = 'waiting'::public.call_state);

CREATE INDEX idempotency_keys_by_age ON public.idempotency_keys USING btree (started_at);

CREATE INDEX lanes_blocked ON public.lanes USING btree (blocked_on, user_id, campaign_id) WHERE (blocked_on IS NOT NULL);

CREATE INDEX lanes_of_campaign ON public.lanes USING btree (campaign_id) WHERE (campaign_id IS NOT NULL);

CREATE UNIQUE INDEX lanes_of_user_key ON public.lanes USING btree (user_id, campaign_id, zones) NULLS NOT DISTINCT WHERE (zones IS NOT NULL);

CREATE INDEX lanes_ring ON public.lanes USING btree (user_id, next_at) WHERE (user_id IS NOT NULL);

CREATE INDEX lanes_urgent ON public.lanes USING btree (urgent_at) WHERE (urgent_at < 'infinity'::timestamp with time zone);

CREATE INDEX stray_events_by_provider_call ON public.stray_events USING btree (provider_call_id);

CREATE INDEX user_turns_ring ON public.user_turns USING btree (next_at) WHERE (next_at IS NOT NULL);

CREATE TRIGGER users_get_a_lane AFTER INSERT ON public.users FOR EACH ROW EXECUTE FUNCTION public.users_get_a_lane();

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_user_fkey FOREIGN KEY (user_id) REFERENCES public.users(id);

insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('1', 'create clock and words', true, E'\\x9bd404090e97beb1ab7a653441ac0940d50542c5d5cc6486fc9ad4ef5bf59f39f30ac82e82a9c54a1e13c3a5ddb519f2', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('2', 'create users campaigns lanes', true, E'\\x6a66cf9a4586e50792f3a42b592d64357ecc2d3641b50cb01997304e939bcebd5722390efc8cdb1e3bd7cc35f3a46cbf', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('3', 'create calls', true, E'\\xb9eb9341a5cfc4eedb531adfc9fa6ee2ddb772b550cddaa4c9855b98ac1f30bf040ec598fe2e22233ea0568b72bd7ed2', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('4', 'create attempts events', true, E'\\x3f717dc018a874196e152f9c3ee818e70cab3ce9dc5e9d40468ffb5b7fa656da3b084d8494198666447aee6b504e393d', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('5', 'create service tables', true, E'\\xf4d5be58e17475c318fa1185bf4dcbe623e0bb9a119b876a8ef594b471e52feac0d7f8dcc0e3783d89d8bad714209f42', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('6', 'create enqueue', true, E'\\x2193644c4cfa35fdfd012f0971cabff005593532a560c027bbed7712cc0fb12a549550f1b57cb6bc5f724dcbb919f2ce', 0);
insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values ('7', 'create ops views', true, E'\\x101b78865232128a8c8d8bc6827d0c60c22d2823279f8f4ef75e98abc6892c56c4638e2c9f4fc8af68744da35b14e831', 0);
insert into public.users (id, name, external_id) values ('00000000-0000-7000-8000-000000000001', 'Operator', 'operator');
