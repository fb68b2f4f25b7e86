-- Numbers whose parked calls nothing will wake: free, and without a due head. Always none; the sweep that repairs it counts.
-- $1 limit bigint
-- Used by queue::release_orphans.
select distinct c.phone as "phone!"
from calls c
where c.state = 'parked'
  and not exists (select from attempts a where a.phone = c.phone and a.ended_at is null)
  and not exists (select from calls w
                  where w.phone = c.phone and w.state = 'waiting' and w.lane_id = c.lane_id and w.due_at <= clock())
limit $1
