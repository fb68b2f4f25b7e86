-- Campaigns, newest first.
-- $1 user_id uuid?   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::campaigns::list.
select id as "id!", user_id as "user_id!", external_id, name as "name!", schedule_id, script_id as "script_id!",
  max_concurrent_calls as "max_concurrent_calls!", max_retries as "max_retries!", retry_delay_secs as "retry_delay_seconds!",
  hours_in as "hours_in!", zone_policy, paused as "paused!", status as "status!", created_at as "created_at!",
  updated_at as "updated_at!", canceled_at
from ops.campaigns
where ($1::uuid is null or user_id = $1) and ($2::uuid is null or id < $2)
order by id desc
limit $3 offset $4
