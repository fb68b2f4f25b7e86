-- Write a user's settings, whole.
-- $1 user_id uuid   $2 time_zone text?   $3 opens time?   $4 closes time?   $5 script_initial text?   $6 script_follow_up text?
-- $7 language text?   $8 voice text?   $9 first_message text?   $10 max_attempts smallint   $11 max_concurrent_calls int?
-- $12 zone_policy text?   $13 retry_rules jsonb
-- Used by store::settings::put.
with owner as (
  update users set time_zone = $2, max_concurrent_calls = least($11, max_concurrent_calls_allowed), updated_at = clock() where id = $1
)
insert into user_settings as s (
  user_id, opens, closes, script_initial, script_follow_up, language, voice, first_message, max_attempts, zone_policy, retry_rules
)
values ($1, $3, $4, $5, $6, $7, $8, $9, $10, $12, $13)
on conflict (user_id) do update
set
  opens = excluded.opens, closes = excluded.closes, script_initial = excluded.script_initial,
  script_follow_up = excluded.script_follow_up, language = excluded.language, voice = excluded.voice,
  first_message = excluded.first_message, max_attempts = excluded.max_attempts, zone_policy = excluded.zone_policy,
  retry_rules = excluded.retry_rules, updated_at = clock()
