-- Delete an endpoint and what is on its way to it.
-- $1 user_id uuid   $2 id uuid
-- Used by store::deliveries::delete.
delete from webhook_endpoints where user_id = $1 and id = $2
