-- A new campaign; nothing when the id exists: a repeat.
-- $1 id uuid   $2 user_id uuid   $3 schedule_id uuid?   $4 name text   $5 script_id text   $6 max_concurrent_calls int
-- $7 max_retries int   $8 retry_delay_secs int   $9 hours_in text   $10 zone_policy text?   $11 paused bool   $12 external_id text?
-- Used by queue::create_campaign.
insert into campaigns (
  id, user_id, schedule_id, name, script_id, max_concurrent_calls, max_retries, retry_delay_secs, hours_in, zone_policy, paused, external_id
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
on conflict (id) do nothing
