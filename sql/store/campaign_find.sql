-- Campaigns with this id or external id: more than one when users share an external id.
-- $1 id uuid?   $2 external_id text?   $3 user_id uuid?, null = of anybody
-- Used by store::campaigns::find.
select id as "id!", user_id as "user_id!", external_id, name as "name!", schedule_id, script_id as "script_id!",
  max_concurrent_calls as "max_concurrent_calls!", max_retries as "max_retries!", retry_delay_secs as "retry_delay_seconds!",
  hours_in as "hours_in!", zone_policy, paused as "paused!", status as "status!", created_at as "created_at!",
  updated_at as "updated_at!", canceled_at
from ops.campaigns
where id in (select id from campaigns where id = $1 union all select id from campaigns where external_id = $2) and ($3::uuid is null or user_id = $3)
limit 2
