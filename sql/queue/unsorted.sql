-- Calls that plain SQL has brought in and that are in no lane of a zone yet. Those of prospects wait here until their user has hours,
-- a script and a subscription: what the planner asks for, too.
-- $1 limit bigint
-- Used by queue::windows.
select c.id, c.user_id, coalesce(c.given, c.phone) as "phone!", c.time_zone, c.ignore_window,
  coalesce((select sorts_operator from installation), false) as "sorts_operator!"
from lanes l
cross join lateral (
  select exists (
    select from user_settings s join users u on u.id = s.user_id
    where s.user_id = l.user_id and s.opens is not null and u.time_zone is not null and coalesce(s.script_follow_up, s.script_initial) is not null
      and exists (select from subscriptions b where b.user_id = l.user_id)) as is_ready
  offset 0
) u
-- Some of each user: one who brings in a hundred thousand does not keep the others waiting.
cross join lateral (
  select * from calls where lane_id = l.id and state = 'waiting' and (prospect_id is null or u.is_ready) limit greatest(10, $1::bigint / 4)
) c
where l.country = '?'
limit $1
