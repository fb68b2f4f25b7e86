-- Promised calls of a user that fall due within $2 seconds.
-- $1 user_id uuid   $2 within_secs float8
-- Used by store::planning::promises.
select c.prospect_id as "prospect_id!", c.id as call_id, c.due_at
from calls c
where c.user_id = $1 and c.prospect_id is not null and c.state = 'waiting' and c.rank = 0
  and c.due_at >= clock() and c.due_at < clock() + make_interval(secs => $2)
order by c.due_at
limit 1000
