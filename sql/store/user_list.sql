-- Users, newest first.
-- $1 user_id uuid?: only this one   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::users::list.
select id, name, email, external_id, max_concurrent_calls, time_zone, allowed_countries, allowed_destinations, allowed_agents, allowed_tools,
  max_concurrent_calls_allowed, daily_minutes_max, daily_cost_max::float8 as daily_cost_max, created_at, updated_at
from users
where ($1::uuid is null or id = $1) and ($2::uuid is null or id < $2)
order by id desc
limit $3 offset $4
