-- A user's settings.
-- $1 user_id uuid
-- Used by store::settings::get.
select
  u.time_zone, s.opens, s.closes, s.script_initial, s.script_follow_up, s.language, s.voice, s.first_message, s.max_attempts,
  u.max_concurrent_calls, s.zone_policy, s.retry_rules as "retry_rules: RawJson", s.updated_at
from user_settings s
join users u on u.id = s.user_id
where s.user_id = $1
