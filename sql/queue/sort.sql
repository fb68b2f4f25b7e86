-- Move calls into the lanes they belong to, and wake those. A call or a lane that somebody holds is left for another time.
-- $1 call_ids uuid[]   $2 lane_ids uuid[]
-- Needs the admission lock, shared. Used by queue::windows.
with unheld as materialized (
  select l.id
  from lanes l
  join user_turns t on t.user_id = l.user_id
  where l.id = any ($2)
  for no key update of l, t skip locked
),
item as materialized (
  select i.id, i.lane_id
  from unnest($1::uuid[], $2::uuid[]) as i(id, lane_id)
  where i.lane_id in (select id from unheld)
),
was as materialized (
  select c.id, c.lane_id from calls c
  where c.id = any (array(select id from item)) and c.state = 'waiting'
  for update skip locked
),
moved as (
  update calls c
  set lane_id = i.lane_id
  from item i
  where c.id = any (array(select id from was)) and c.id = i.id
  returning c.id, c.user_id, c.lane_id, c.due_at, c.rank
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, null, 'PENDING', sum(n)
  from (
    select w.lane_id, m.user_id, -1 as n from moved m join was w on w.id = m.id
    union all
    select m.lane_id, m.user_id, 1 from moved m
  ) t
  group by lane_id, user_id
),
due as materialized (
  select lane_id, user_id, min(due_at) as next_at, coalesce(min(due_at) filter (where rank < 2), 'infinity') as urgent_at
  from moved
  group by lane_id, user_id
),
woken as (
  update lanes l
  set next_at = least(l.next_at, d.next_at), urgent_at = least(l.urgent_at, d.urgent_at)
  from due d
  where l.id = any ($2) and l.id = d.lane_id and l.blocked_on is null
)
update user_turns t
set next_at = least(t.next_at, d.next_at)
from (select user_id, min(next_at) as next_at from due group by user_id) d
where t.user_id = any (array(select user_id from due)) and t.user_id = d.user_id and t.blocked_on is null
