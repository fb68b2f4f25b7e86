-- What users with a subscription may still dial, and what holds them back.
select u.name, s.status, s.minutes_left, s.minutes_left - q.minutes as reserved, s.overage_minutes, s.day_dials, p.per_day, q.calls, q.reason,
  s.period_ends_at
from quotas q
join subscriptions s on s.user_id = q.user_id
join plans p on p.id = s.plan_id
join users u on u.id = q.user_id
order by q.reason nulls last, q.calls
limit 100;
