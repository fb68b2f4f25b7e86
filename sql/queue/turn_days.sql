-- Begin the day: dials count from nothing. A clock set back does not give a day twice.
-- $1 user_ids uuid[]   $2 days date[]   $3 ends timestamptz[]
-- Needs the admission lock, exclusive; the triggers wake what waited. Used by queue::turn_days.
with over as materialized (
  select user_id from subscriptions where user_id = any ($1) for no key update skip locked
)
update subscriptions s
set
  day_dials = case when s.day is null or d.day > s.day then 0 else s.day_dials end,
  day = greatest(s.day, d.day), day_ends_at = d.ends
from unnest($1::uuid[], $2::date[], $3::timestamptz[]) as d(user_id, day, ends)
where s.user_id = d.user_id and s.user_id = any (array(select unheld_users(array(select user_id from over))))
