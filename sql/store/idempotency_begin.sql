-- Begin a request under a key, or learn what became of the first. The key itself is the lock: the loser of a race gets the
-- winner's row. ours: this request runs, for the first time or because the one before it died.
-- $1 user_id uuid   $2 key text   $3 seed uuid   $4 fingerprint bytea   $5 running_secs_max float8
-- Used by store::idempotency::begin.
insert into idempotency_keys as k (user_id, key, seed, fingerprint, started_at)
values ($1, $2, $3, $4, clock())
on conflict (user_id, key) do update
set started_at = case
  when k.status is null and k.fingerprint = excluded.fingerprint and k.started_at < clock() - make_interval(secs => $5)
  then clock() else k.started_at end
returning k.seed, k.fingerprint, k.status, k.body, (k.status is null and k.started_at = clock()) as "ours!"
