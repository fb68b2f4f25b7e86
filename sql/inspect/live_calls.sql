-- The calls under way, the longest first.
select age, call_id, attempt_id, attempt_number, state, phone, provider, provider_call_id, user_id, campaign_id, claimed_at
from ops.live_calls
order by claimed_at, attempt_id
limit 100;
