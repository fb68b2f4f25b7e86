-- How many calls wait for each reason, and when the first and the last of them can go.
select reason, count(*) as calls, min(clears_at) as first_clears_at, max(clears_at) as last_clears_at, min(due_at) as oldest_due_at
from ops.waiting
group by reason
order by calls desc, reason
limit 100;
