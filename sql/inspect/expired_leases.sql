-- Dials whose process has died: each turns unknown within seconds, so rows that stay mean that no scheduler runs.
select lease_until, host, instance_id, call_id, attempt_id, state, claimed_at
from ops.expired_leases
order by claimed_at, attempt_id
limit 100;
