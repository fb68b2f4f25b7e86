-- The attempts in doubt, the oldest first: the provider is asked about each, and none is dialed again on a guess.
select age, call_id, attempt_id, provider, claimed_at, sent_at, misses, check_at
from ops.unknown_attempts
order by claimed_at, attempt_id
limit 100;
