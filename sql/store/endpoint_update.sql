-- Change an endpoint; null keeps a field.
-- $1 user_id uuid   $2 id uuid   $3 url text?   $4 events text[]?   $5 disabled bool?
-- Used by store::deliveries::update.
update webhook_endpoints
set
  url = coalesce($3, url), events = coalesce($4, events),
  disabled_at = case when $5::bool is null then disabled_at when $5 then coalesce(disabled_at, clock()) end, updated_at = clock()
where user_id = $1 and id = $2
