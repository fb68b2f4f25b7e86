-- Make or change a user's subscription.
-- $1 user_id uuid   $2 plan_id uuid   $3 minutes_left int?   $4 status text?
-- Needs the admission lock, exclusive; the triggers wake what waited. Used by queue::subscribe.
insert into subscriptions as s (user_id, plan_id, minutes_left, status, period_ends_at)
select $1, p.id, coalesce($3, p.minutes), coalesce($4, 'ACTIVE'), clock() + make_interval(days => p.duration_days)
from plans p
where p.id = $2
on conflict (user_id) do update
set plan_id = excluded.plan_id, minutes_left = coalesce($3, s.minutes_left), status = coalesce($4, s.status), updated_at = clock()
