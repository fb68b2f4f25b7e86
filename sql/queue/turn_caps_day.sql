-- A new day (UTC): users with daily caps are woken. One whom somebody's session holds is woken by the next look at its lanes.
-- Needs the admission lock, exclusive. Used by queue::quotas.
with turned as (
  update installation set caps_day = (clock() at time zone 'UTC')::date
)
select count(*) as "woken!"
from unheld_users(array(select id from users where daily_minutes_max is not null or daily_cost_max is not null)) u
cross join lateral (select wake_user(u)) w
