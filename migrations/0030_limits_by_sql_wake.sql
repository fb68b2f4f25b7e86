-- A limit of a user that plain SQL changes wakes what slept at it: until it is taken in, that user's lanes sleep with reason.
-- The service wakes by itself what it changes.
create function users_wake() returns trigger
language plpgsql
as $$
begin
  perform note_change(new.id, 'WAKE');
  return null;
end
$$;
comment on function users_wake() is 'Another limit of a user, written by plain SQL: what sleeps at it deserves a look.';
create trigger users_wake after update of max_concurrent_calls, daily_minutes_max, daily_cost_max on users
  for each row when (not is_service()
    and (old.max_concurrent_calls, old.daily_minutes_max, old.daily_cost_max)
      is distinct from (new.max_concurrent_calls, new.daily_minutes_max, new.daily_cost_max))
  execute function users_wake();

do $$
declare
  body text := pg_get_viewdef('ops.broken'::regclass);
  waits constant text := '(l.blocked_on = ''user''::text) AND (';
begin
  assert strpos(body, waits) > 0, 'ops.broken is not what it was';
  execute 'create or replace view ops.broken as ' || replace(body, waits,
    '(l.blocked_on = ''user''::text) AND (not exists (select from sql_changes x where x.user_id = l.user_id)) AND (');
end
$$;
