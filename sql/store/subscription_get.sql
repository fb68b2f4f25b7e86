-- A user's subscription as it is shown.
-- $1 user_id uuid
-- Used by store::plans::subscription.
select
  s.user_id, s.plan_id, s.status, s.minutes_left, s.minutes_left - q.minutes as "minutes_reserved!", s.overage_minutes, s.period_ends_at,
  s.day, s.day_dials as dials_today, p.per_day, q.reason as blocked_by, s.updated_at
from subscriptions s
join plans p on p.id = s.plan_id
join quotas q on q.user_id = s.user_id
where s.user_id = $1
