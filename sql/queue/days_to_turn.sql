-- Subscriptions on whose clock a new day has begun.
-- $1 limit bigint
-- Used by queue::turn_days.
select s.user_id, u.time_zone, clock() as "now!"
from subscriptions s
join users u on u.id = s.user_id
where s.status = 'ACTIVE' and s.day_ends_at <= clock()
order by s.day_ends_at
limit $1
