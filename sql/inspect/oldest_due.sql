-- The calls that have been due the longest and still wait, each with its one reason.
select now() - due_at as overdue, due_at, reason, clears_at, detail, call_id, user_id, campaign_id
from ops.waiting
where due_at <= now()
order by due_at, call_id
limit 20;
