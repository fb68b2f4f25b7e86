-- Calls that plain SQL has brought in and that are in no lane of a zone yet. Those of prospects wait here until their user has hours,
-- a script and a subscription: what the planner asks for, too.
-- $1 limit bigint
-- Used by queue::windows.
select c.id, c.user_id, coalesce(c.given, c.phone) as "phone!", c.time_zone, c.ignore_window
from lanes l
join calls c on c.lane_id = l.id and c.state = 'waiting'
where l.country = '?'
  and (c.prospect_id is null or exists (
    select from user_settings s join users u on u.id = s.user_id
    where s.user_id = l.user_id and s.opens is not null and u.time_zone is not null and coalesce(s.script_follow_up, s.script_initial) is not null
      and exists (select from subscriptions b where b.user_id = l.user_id)))
limit $1
