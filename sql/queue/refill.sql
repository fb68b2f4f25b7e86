-- Begin the next period of subscriptions whose period is over: the plan's minutes again.
-- $1 limit bigint
-- Needs the admission lock, exclusive; the triggers wake what waited. Used by queue::refill.
with over as materialized (
  select user_id from subscriptions
  where status = 'ACTIVE' and period_ends_at <= clock()
  order by period_ends_at
  limit $1
  for no key update skip locked
)
update subscriptions s
set
  minutes_left = p.minutes, overage_minutes = 0, updated_at = clock(),
  -- Periods nobody was there for are passed over.
  period_ends_at = s.period_ends_at + make_interval(days => p.duration_days)
    * (1 + floor(extract(epoch from clock() - s.period_ends_at) / (86400.0 * p.duration_days))::int)
from plans p
where p.id = s.plan_id and s.user_id = any (array(select unheld_users(array(select user_id from over))))
