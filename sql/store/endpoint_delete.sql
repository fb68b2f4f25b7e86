-- Delete an endpoint, and give up what is on its way to it.
-- $1 user_id uuid   $2 id uuid
-- Used by store::deliveries::delete.
with gone as (
  delete from webhook_endpoints where user_id = $1 and id = $2 returning id
)
update deliveries set state = 'dead', ended_at = clock(), last_error = 'the endpoint was deleted'
where state = 'waiting' and endpoint_id = any (array(select id from gone))
