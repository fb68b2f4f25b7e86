-- Change an endpoint; null keeps a field. What is on its way to one that is disabled is given up.
-- $1 user_id uuid   $2 id uuid   $3 url text?   $4 events text[]?   $5 disabled bool?
-- Used by store::deliveries::update.
with changed as (
  update webhook_endpoints
  set
    url = coalesce($3, url), events = coalesce($4, events),
    disabled_at = case when $5::bool is null then disabled_at when $5 then coalesce(disabled_at, clock()) end, updated_at = clock()
  where user_id = $1 and id = $2
  returning id, disabled_at
)
update deliveries set state = 'dead', ended_at = clock(), last_error = 'the endpoint is disabled'
where state = 'waiting' and endpoint_id = any (array(select id from changed where disabled_at is not null))
