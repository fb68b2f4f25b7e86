-- Delete an endpoint.
-- $1 user_id uuid   $2 id uuid
-- Used by store::deliveries::delete, which gives up what is on its way to it.
delete from webhook_endpoints where user_id = $1 and id = $2
