-- The attempts of one call, oldest first.
-- $1 call_id uuid
-- Used by store::calls::attempts.
select
  id, number, state as "state: AttemptState", dialed, provider, provider_call_id, claimed_at, accepted_at, started_at, ended_at,
  disposition, hangup_cause, duration_secs, told as "told: RawJson"
from attempts
where call_id = $1
order by number
limit 1000
