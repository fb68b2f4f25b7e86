-- One user.
-- $1 id uuid
-- Used by store::users::get.
select id, name, email, external_id, max_concurrent_calls, time_zone, allowed_countries, allowed_destinations, allowed_agents, allowed_tools,
  max_concurrent_calls_allowed, daily_minutes_max, daily_cost_max::float8 as daily_cost_max, created_at, updated_at
from users where id = $1
