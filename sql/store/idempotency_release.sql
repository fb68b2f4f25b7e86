-- The request under this key failed without a final answer: a repeat may run at once, with the same ids.
-- $1 user_id uuid   $2 key text
-- Used by store::idempotency::release.
update idempotency_keys set started_at = '-infinity' where user_id = $1 and key = $2 and status is null
