-- Forget answers older than $1 hours.
-- $1 hours int
-- Used by store::idempotency::prune.
delete from idempotency_keys where started_at > '-infinity' and started_at < clock() - make_interval(hours => $1)
