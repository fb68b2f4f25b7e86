-- A row that somebody keeps locked holds up its own user, and nobody else's housekeeping.
create function unheld_users(users uuid[]) returns setof uuid
language sql volatile
as $$
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
comment on function unheld_users(uuid[]) is 'Those of the users whom wake_user can wake without waiting for another session; takes hold of their rows. Needs the admission lock.';
