-- Forget up to $2 answers older than $1 hours, and requests of that age that failed without one: these have no start any more, and their
-- seed was made when they began.
-- $1 hours int   $2 limit bigint
-- Used by store::idempotency::prune.
delete from idempotency_keys
where ctid = any (array(
  select ctid from idempotency_keys
  where (started_at > '-infinity' and started_at < clock() - make_interval(hours => $1))
    or (started_at = '-infinity' and status is null and seed < ops.uuid_floor(clock() - make_interval(hours => $1)))
  limit $2
))
