-- Keep the answer to a request.
-- $1 user_id uuid   $2 key text   $3 status smallint   $4 body bytea
-- Used by store::idempotency::finish.
update idempotency_keys set status = $3, body = $4 where user_id = $1 and key = $2 and status is null
