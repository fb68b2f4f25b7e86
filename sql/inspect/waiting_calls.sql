-- The calls that wait, in the order they fell due, each with its one reason.
select due_at, reason, clears_at, detail, call_id, rank, user_id, campaign_id, lane_id
from ops.waiting
order by due_at, call_id
limit 100;
