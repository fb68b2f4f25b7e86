-- Statements from outside hold the admission lock for a bounded time, whatever their session does next.

-- A session in somebody's psql that holds the lock and idles would stop every claim and every POST. Its own time-outs are set for the
-- rest of the transaction: what it began is undone then, and the session ends.
create function admission_is_brief() returns void
language plpgsql
as $$
declare
  since text := current_setting('outdial.admitted_at', true);
begin
  if current_setting('outdial.service', true) = 'on' then
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
comment on function admission_is_brief() is
  'Bounds for how long a session that is not the service''s may hold the admission lock: 2 s idle, 3 s of work, 5 s for a statement.';

create function admission_lock(shared boolean) returns void
language plpgsql
as $$
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
comment on function admission_lock(boolean) is
  'The admission lock: together with other feeders, or alone. Held briefly: a row is waited for 0.5 s with it in hand, or 0.2 s alone.';

-- Looked up for every row of a statement, under the lock: a table, where pg_timezone_names reads files.
create table time_zones (
  name  text not null,
  constraint time_zones_pkey primary key (name)
);
comment on table time_zones is 'Names of time zones that settings may use.';
insert into time_zones select name from pg_timezone_names where name !~ '^(posix|right)/' and name <> 'localtime';

-- Every function that takes the lock takes it so; and zones are looked up in the table.
do $$
declare
  f record;
begin
  for f in
    select p.oid, pg_get_functiondef(p.oid) as body
    from pg_proc p
    where p.pronamespace in ('public'::regnamespace, 'ops'::regnamespace) and p.proname not like 'admission%' and p.prokind = 'f'
      and (p.prosrc like '%pg_advisory_xact_lock%(7001)%' or p.prosrc like '%pg_timezone_names%')
  loop
    execute replace(replace(replace(f.body,
      'pg_advisory_xact_lock_shared(7001)', 'admission_lock(true)'),
      'pg_advisory_xact_lock(7001)', 'admission_lock(false)'),
      'from pg_timezone_names where', 'from time_zones where');
  end loop;
  -- A statement over many prospects is looked at row by row.
  execute replace(pg_get_functiondef('prospects_steer_calls'::regproc),
    'insert into planning (user_id) values (new.user_id) on conflict do nothing;',
    'perform admission_is_brief();' || e'\n  ' || 'insert into planning (user_id) values (new.user_id) on conflict do nothing;');
end
$$;
