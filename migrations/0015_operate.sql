-- What operators must be able to see and do: which processes there are and what they last did, what is wrong and the way out, acts of
-- people, and a hold on dialing for a database that is not the one that dialed last.

alter table instances
  add column turn_at         timestamptz,
  add column settle_at       timestamptz,
  add column planning_at     timestamptz,
  add column delivery_at     timestamptz,
  add column housekeeping_at timestamptz,
  add column word_at         timestamptz;
comment on column instances.turn_at is 'Its last turn that succeeded; the others likewise: settling, planning batch, delivery to a customer, housekeeping.';
comment on column instances.word_at is 'When a provider last said something to it, by webhook or when asked.';

create table audit_log (
  id       uuid        not null default uuid_v7(),
  at       timestamptz not null default clock(),
  actor    text        not null,
  action   text        not null,
  subject  text        not null,
  before   jsonb,
  after    jsonb,
  constraint audit_log_pkey primary key (id),
  constraint audit_log_texts_bounded check (char_length(actor) <= 255 and char_length(action) <= 100 and char_length(subject) <= 255)
);
comment on table audit_log is 'What people did by hand that the system would not do by itself: who, when, what, before and after. Never changed.';
create index audit_log_by_subject on audit_log (subject, id);

alter table installation
  add column system_identifier text,
  add column timeline          int,
  add column database_oid      oid,
  add column held_since        timestamptz,
  add column held_for          text,
  add column hold_lifted_at    timestamptz,
  add constraint installation_hold_whole check ((held_since is null) = (held_for is null)),
  add constraint installation_held_for_known check (held_for in ('RESTORED_DATABASE', 'LOST_COMMITS'));
comment on column installation.system_identifier is 'The server, its timeline and the database this installation dialed on last. Another one is a copy: it does not know what was dialed since.';
comment on column installation.hold_lifted_at is 'A person has looked: what is missing of the attempts before then holds no more.';
comment on column installation.held_since is 'Nothing is dialed from then on, until a person lifts the hold (outdial reconcile).';

-- Null where this role may not know.
create function database_identity() returns table (system_identifier text, timeline int, database_oid oid)
language plpgsql stable
as $$
begin
  return query
  select (select s.system_identifier::text from pg_control_system() s), (select c.timeline_id from pg_control_checkpoint() c),
    (select d.oid from pg_database d where d.datname = current_database());
exception when insufficient_privilege then
  return query select null::text, null::int, (select d.oid from pg_database d where d.datname = current_database());
end
$$;
comment on function database_identity() is 'Which server, timeline and database this is.';

create view ops.processes as
  select id, role, host, started_at, lease_until, turn_at, settle_at, planning_at, delivery_at, housekeeping_at, word_at
  from instances
  where lease_until > clock();
comment on view ops.processes is 'Running processes and what they last did.';

create view ops.alarms as
  with alive as (
    select
      coalesce(bool_or(role in ('all', 'api')), false) as api, coalesce(bool_or(role in ('all', 'worker')), false) as worker,
      coalesce(bool_or(role in ('all', 'scheduler')), false) as scheduler,
      max(turn_at) filter (where role in ('all', 'worker')) as turn_at, max(word_at) as word_at, max(housekeeping_at) as housekeeping_at,
      min(started_at) as started_at
    from ops.processes
  )
  select 'DIALING_HELD' as code, i.held_since as since,
    case i.held_for
      when 'RESTORED_DATABASE' then 'this database is another than the one that dialed last (a restored backup, or a promoted standby)'
      else 'commits of this database were lost: it does not know of calls that were dialed' end as what,
    'run outdial reconcile, which asks the provider; then outdial reconcile --lift-hold' as way_out
  from installation i where i.held_since is not null
  union all
  select 'NO_WORKER', null, 'no process dials', 'start one with --role worker or --role all' from alive where not worker
  union all
  select 'NO_SCHEDULER', null, 'no process plans, opens windows, reads files or tells customers', 'start one with --role scheduler or --role all'
  from alive where not scheduler
  union all
  select 'NO_API', null, 'no process takes requests and webhooks', 'start one with --role api or --role all' from alive where not api
  union all
  select 'TURNS_STALLED', turn_at, 'no turn of any worker has succeeded for a while: nothing is dialed or settled',
    'see its log; a lock in somebody''s session shows in ops.lock_holders'
  from alive where worker and coalesce(turn_at, started_at) < clock() - interval '30 seconds'
  union all
  select 'HOUSEKEEPING_STALLED', housekeeping_at, 'no housekeeping has succeeded for a while', 'see the scheduler''s log'
  from alive where scheduler and coalesce(housekeeping_at, started_at) < clock() - interval '60 seconds'
  union all
  select 'PROVIDER_SILENT', s.since, s.n || ' accepted calls, and no word from the provider for over 5 minutes',
    'can it reach SERVICE_URL (WEBHOOK_BASE_URL)? Set a look-up, or end calls by POST /api/v1/calls/{id}/end'
  from (
    select count(*) as n, min(accepted_at) as since from attempts
    where ended_at is null and state = 'accepted' and accepted_at < clock() - interval '5 minutes'
  ) s
  cross join alive
  where s.n > 0 and coalesce(alive.word_at, '-infinity') < clock() - interval '5 minutes'
  union all
  select 'IN_DOUBT', min(a.claimed_at), count(*) || ' attempts in doubt for over 5 minutes',
    'the provider does not answer the look-up; end them by POST /api/v1/calls/{id}/end once you know'
  from attempts a where a.ended_at is null and a.state = 'unknown' and a.claimed_at < clock() - interval '5 minutes'
  having count(*) > 0
  union all
  select 'DEAD_LETTERS', min(d.at), count(*) || ' things could not be read or stored within the last day', 'look at ops.dead_letters'
  from dead_letters d where d.at > clock() - interval '1 day'
  having count(*) > 0
  union all
  select 'BREAKER_OPEN', null, 'the provider does not answer, or refuses us', 'see ops.provider_errors and outdial doctor'
  from ops.limits l where l.breaker <> 'closed'
  union all
  -- A session that is not the service's: the queue's own lock for a second, or rows or whole tables for five.
  select 'LOCK_HELD', h.since, 'session ' || h.pid || ' (' || h.application || ', ' || h.state || ') holds ' || h.what,
    'end it: select pg_terminate_backend(' || h.pid || ')'
  from (
    select
      l.pid, s.application_name as application, coalesce(s.state, 'unknown') as state, min(s.xact_start) as since,
      coalesce('locks on ' || string_agg(distinct c.relname, ', ' order by c.relname), 'the queue''s lock') as what
    from pg_locks l
    join pg_stat_activity s on s.pid = l.pid
    left join pg_class c on l.locktype = 'relation' and c.oid = l.relation and c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
    where l.granted and s.backend_type = 'client backend' and s.application_name is distinct from 'outdial'
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and (
        (l.locktype = 'advisory' and l.classid = 0 and l.objid = 7001 and s.state_change < clock_timestamp() - interval '1 second')
        or (c.oid is not null and l.mode not in ('AccessShareLock', 'ShareUpdateExclusiveLock')
            and s.xact_start < clock_timestamp() - interval '5 seconds'))
    group by l.pid, s.application_name, s.state
  ) h;
comment on view ops.alarms is 'What is wrong now, since when, and the way out: empty when all is well.';

-- Dialing is held: no slot is free, and the reason says so.
create or replace view ops.limits as
  select
    l.provider, l.global_max, l.global_live, l.hold_reason, l.hold_until, l.provider_ceiling, l.breaker, l.token_at,
    case
      when l.held_for is not null then l.held_for
      when l.global_live >= l.global_max then 'GLOBAL_LIMIT'
      when l.hold_reason is not null then l.hold_reason
      when l.token_at is not null then 'PROVIDER_RATE'
      else 'DUE_NOW'
    end as reason,
    case
      when l.held_for is not null or l.global_live >= l.global_max then null
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
      r.counted_at + make_interval(secs => (1 - r.tokens) / nullif(i.dials_per_second, 0)) as token_at,
      i.held_for
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
