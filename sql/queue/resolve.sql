-- Which attempts the provider's ids $1 mean; the newest where an id was used twice.
-- $1 provider_call_ids text[]
-- Used by queue::resolve.
select distinct on (provider_call_id) provider_call_id as "provider_call_id!", id
from attempts
where provider_call_id = any ($1)
order by provider_call_id, claimed_at desc
