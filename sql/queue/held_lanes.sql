-- Which of the lanes $1 another session holds at this moment, or whose user's turn it holds: what enters them would have to wait.
-- $1 lane_ids uuid[]
-- Used by queue::enqueue.
with free_lanes as materialized (
  select id, user_id from lanes where id = any ($1) for no key update skip locked
),
free_turns as materialized (
  select user_id from user_turns where user_id = any (array(select user_id from free_lanes)) for no key update skip locked
)
select id as "id!: LaneId"
from unnest($1::uuid[]) as w(id)
where id <> all (array(select l.id from free_lanes l join free_turns t on t.user_id = l.user_id))
