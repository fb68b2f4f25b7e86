-- Change a user; null keeps a field, and those that may be emptied have a flag. A trigger closes the user's lanes where it may call less or
-- more by it, and takes the admission lock.
-- $1 id uuid   $2 name text?   $3 email_given bool   $4 email text?   $5 countries_given bool   $6 allowed_countries text[]?
-- $7 allowed_destinations text[]?   $8 allowed_agents text[]?   $9 allowed_tools text[]?   $10 live_max_given bool
-- $11 max_concurrent_calls_allowed int?: a user that has the most there was follows it
-- $12 minutes_given bool   $13 daily_minutes_max int?   $14 cost_given bool   $15 daily_cost_max float8?
-- Used by store::users::update.
update users
set
  name = coalesce($2, name), email = case when $3 then $4 else email end,
  allowed_countries = case when $5 then $6 else allowed_countries end,
  allowed_destinations = coalesce($7, allowed_destinations),
  allowed_agents = coalesce($8, allowed_agents), allowed_tools = coalesce($9, allowed_tools),
  max_concurrent_calls_allowed = case when $10 then $11 else max_concurrent_calls_allowed end,
  max_concurrent_calls = case
    when not $10 then max_concurrent_calls
    when max_concurrent_calls is not distinct from max_concurrent_calls_allowed then $11
    else least(max_concurrent_calls, $11)
  end,
  daily_minutes_max = case when $12 then $13 else daily_minutes_max end,
  daily_cost_max = case when $14 then $15::float8 else daily_cost_max end, updated_at = clock()
where id = $1
