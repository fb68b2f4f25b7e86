-- Make lanes deserve a look at a time (null: now), and their users. Lanes that sleep for a reason (blocked_on) stay asleep.
-- `urgents`: for a call of rank 0 or 1.
-- Needs the admission lock. Used by queue::wake; called by turn and bring_back.
create or replace function wake_lanes(lane_ids uuid[], ats timestamptz[], urgents boolean[]) returns void
language plpgsql
as $$
#variable_conflict use_column
begin
with call as materialized (
  select w.lane_id, coalesce(w.at, clock()) as at, w.urgent
  from unnest($1::uuid[], $2::timestamptz[], $3::bool[]) as w(lane_id, at, urgent)
),
due as materialized (
  select lane_id, min(at) as next_at, coalesce(min(at) filter (where urgent), 'infinity') as urgent_at
  from call
  group by lane_id
),
woken as (
  update lanes l
  set next_at = least(l.next_at, d.next_at), urgent_at = least(l.urgent_at, d.urgent_at)
  from due d
  where l.id = any ($1) and l.id = d.lane_id and l.blocked_on is null
    and (l.next_at > d.next_at or l.urgent_at > d.urgent_at)
  returning l.user_id, l.next_at
),
turn as materialized (
  select user_id, min(next_at) as next_at from woken group by user_id
)
update user_turns t
set next_at = u.next_at
from turn u
where t.user_id = any (array(select user_id from turn)) and t.user_id = u.user_id
  and t.blocked_on is null and t.next_at > u.next_at;
end
$$;
