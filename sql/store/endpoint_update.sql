-- Change an endpoint; null keeps a field. One that is enabled, or moves elsewhere, is taken for well until it fails again.
-- $1 user_id uuid   $2 id uuid   $3 url text?   $4 events text[]?   $5 disabled bool?
-- Used by store::deliveries::update, which gives up what is on its way to one that is disabled.
update webhook_endpoints e
set
  url = coalesce($3, e.url), events = coalesce($4, e.events),
  disabled_at = case when $5::bool is null then e.disabled_at when $5 then coalesce(e.disabled_at, clock()) end,
  disabled_reason = case when $5::bool is null then e.disabled_reason when $5 then coalesce(e.disabled_reason, 'REQUESTED') end,
  failures = case when v.anew then 0 else e.failures end,
  failing_since = case when not v.anew then e.failing_since end,
  retry_at = case when v.anew then '-infinity' else e.retry_at end,
  last_error = case when not v.anew then e.last_error end,
  updated_at = clock()
from webhook_endpoints o
cross join lateral (select coalesce(not $5::bool, false) or coalesce($3 <> o.url, false) as anew) v
where o.user_id = $1 and o.id = $2 and e.id = o.id
