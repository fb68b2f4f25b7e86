-- Write the windows of lanes, and put those that have work to sleep until then. One that never opens sleeps for that reason.
-- $1 ids uuid[]   $2 opens_ats timestamptz[]?   $3 closes_ats timestamptz[]?   $4 refresh_ats timestamptz[]?
-- $5 closed_bys text[]?   $6 nevers bool[]
-- Needs the lock of windows, and the admission lock, exclusive. Used by queue::windows.
with fresh as materialized (
  -- No time: since ever, or for ever.
  select
    f.id, coalesce(f.opens_at, '-infinity') as opens_at, coalesce(f.closes_at, 'infinity') as closes_at,
    coalesce(f.refresh_at, 'infinity') as refresh_at, f.closed_by, f.never
  from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::bool[])
    as f(id, opens_at, closes_at, refresh_at, closed_by, never)
),
after as materialized (
  select
    f.*, l.user_id,
    case when l.blocked_on is distinct from 'window' and l.blocked_on is not null then l.blocked_on
         when f.never then 'window' end as blocked_on,
    case when exists (select from calls c where c.lane_id = l.id and c.state = 'waiting')
         then greatest(f.opens_at, clock()) else 'infinity' end as next_at
  from fresh f
  join lanes l on l.id = f.id
  join user_turns t on t.user_id = l.user_id
  -- One that somebody holds stays due; where none may be passed over, they are held already (hold_lanes.sql).
  for no key update of l, t skip locked
),
opened as (
  update lanes l
  set
    opens_at = a.opens_at, closes_at = a.closes_at, refresh_at = a.refresh_at, closed_by = a.closed_by,
    blocked_on = a.blocked_on,
    next_at = case when a.blocked_on is not null then 'infinity' else a.next_at end,
    urgent_at = case when a.blocked_on is not null then 'infinity' else greatest(urgent_of(l.id), a.next_at) end
  from after a
  where l.id = any ($1) and l.id = a.id
),
turn as materialized (
  select user_id, min(next_at) as next_at from after where blocked_on is null group by user_id
)
update user_turns t
set next_at = u.next_at
from turn u
where t.user_id = any (array(select user_id from turn)) and t.user_id = u.user_id
  and t.blocked_on is null and t.next_at > u.next_at
