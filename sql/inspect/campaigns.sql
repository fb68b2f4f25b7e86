-- Campaigns with their status and counts, busiest first.
select id, name, status, total, pending, in_progress, completed, failed, canceled, retries_attempted, max_concurrent_calls
from ops.campaigns
order by in_progress desc, pending desc
limit 100;
