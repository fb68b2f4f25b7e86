-- Who writes by the platform's views, or calls ops.enqueue, needs rights to those alone: what they do is done with the rights of whoever
-- owns the schema. Who may do what is granted by sql/roles.sql.
create or replace function is_service() returns boolean
language sql stable parallel safe
as $$
  select coalesce(current_setting('outdial.service', true), '') = 'on'
    -- Anybody can say so; who may write attempts can be believed.
    and has_table_privilege(session_user, 'public.attempts'::regclass, 'insert')
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid::regprocedure
    from pg_proc p
    where p.pronamespace in ('public'::regnamespace, 'ops'::regnamespace)
      and p.proname in ('platform_write_plan', 'platform_write_prospect', 'platform_write_setting', 'platform_write_subscription', 'platform_write_user',
        'enqueue', 'explain')
      and (p.proname <> 'enqueue' or p.pronamespace = 'ops'::regnamespace)
  loop
    execute format('alter function %s security definer', f);
    execute format('alter function %s set search_path = public, ops, pg_temp', f);
  end loop;
end
$$;

create or replace function admission_is_brief() returns void
language plpgsql
as $$
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

revoke execute on function admission_lock(boolean), admission_is_brief(), take_in_changes(uuid, integer), lanes_reopen(uuid),
  settle_rules(boolean, boolean, boolean, text[]) from public;
revoke execute on all functions in schema ops from public;
