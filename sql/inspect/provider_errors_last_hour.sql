-- What went wrong with the provider in the last hour, the newest first.
select received_at, type, provider, call_id, attempt_id, body
from ops.provider_errors
order by received_at desc, attempt_id
limit 100;
