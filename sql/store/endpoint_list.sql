-- A user's endpoints, newest first.
-- $1 user_id uuid
-- Used by store::deliveries::list.
select
  id, user_id, url, events, disabled_at, disabled_reason, failing_since, last_error, nullif(retry_at, '-infinity') as retry_at,
  case when previous_secret_until > clock() then previous_secret_until end as previous_secret_until, created_at, updated_at
from webhook_endpoints
where user_id = $1
order by id desc
