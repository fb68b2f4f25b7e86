-- What decides when lanes $1 are open. A zone policy that is not given is the provider's: hold where real people are called by
-- a carrier, user elsewhere.
-- $1 lane_ids uuid[]
-- Needs the lock of windows. Used by queue::windows.
select
  l.id, l.country, l.zones, g.hours_in, s.time_zone as "schedule_zone?", s.hours as "hours?", s.closed_dates as "closed_dates?",
  coalesce(g.zone_policy, (select case when provider = 'ultravox' then 'hold' else 'user' end from installation), 'user') as "zone_policy!",
  u.time_zone as user_zone
from lanes l
join campaigns g on g.id = l.campaign_id
join users u on u.id = l.user_id
left join schedules s on s.id = g.schedule_id
where l.id = any ($1)
