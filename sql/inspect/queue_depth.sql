-- How many open calls there are, by user, campaign and status, and since when the oldest of them is due.
select
  user_id, campaign_id, status, sum(calls)::bigint as calls, min(oldest_due_at) as oldest_due_at, max(newest_due_at) as newest_due_at
from ops.queue
group by user_id, campaign_id, status
order by calls desc, user_id, campaign_id, status
limit 100;
