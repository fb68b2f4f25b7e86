-- What decides how much is planned for a user.
-- $1 user_id uuid
-- Used by store::planning::facts.
select
  clock() as "now!", u.time_zone, s.opens as "opens?", s.closes as "closes?", s.script_initial as "script_initial?",
  s.script_follow_up as "script_follow_up?", s.first_message as "first_message?",
  coalesce(s.max_attempts, 3::smallint) as "max_attempts!", coalesce(q.is_subscribed, false) as "has_subscription!",
  q.reason as quota_reason, coalesce(q.calls, 0)::bigint as "calls_left!",
  -- Those of a later day have that day's dials.
  (select count(*) from calls c
   where c.user_id = u.id and c.prospect_id is not null and c.state = 'waiting'
     and c.due_at < case when q.day_ends_at > clock() then q.day_ends_at else clock() + interval '1 day' end) as "waiting!"
from users u
left join user_settings s on s.user_id = u.id
left join quotas q on q.user_id = u.id
where u.id = $1
