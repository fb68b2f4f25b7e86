-- One endpoint of a user.
-- $1 user_id uuid   $2 id uuid
-- Used by store::deliveries::get.
select
  id, user_id, url, events, disabled_at, disabled_reason, failing_since, last_error, nullif(retry_at, '-infinity') as retry_at,
  case when previous_secret_until > clock() then previous_secret_until end as previous_secret_until, created_at, updated_at
from webhook_endpoints
where user_id = $1 and id = $2
