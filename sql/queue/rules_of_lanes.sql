-- What decides when lanes $1 are open: the campaign's schedule, or for single calls the user's own hours; without those they always
-- are. A zone policy that is not given is the provider's: hold where real people are called by a carrier, user elsewhere.
-- $1 lane_ids uuid[]
-- Needs the lock of windows. Used by queue::windows.
select
  l.id, l.country, l.zones, coalesce(g.hours_in, 'schedule') as "hours_in!",
  l.campaign_id is null and (p.opens is null or l.country = '*') as "always!",
  case when l.campaign_id is null then coalesce(u.time_zone, 'Etc/UTC') else s.time_zone end as schedule_zone,
  case
    when l.campaign_id is null and p.opens is not null then jsonb_build_array(jsonb_build_object(
      'days', '["mon","tue","wed","thu","fri","sat","sun"]'::jsonb,
      'opens', to_char(p.opens, 'HH24:MI'), 'closes', to_char(p.closes, 'HH24:MI')))
    else s.hours
  end as "hours: RawJson",
  s.closed_dates as "closed_dates?",
  coalesce(
    case when l.campaign_id is null then p.zone_policy else g.zone_policy end,
    (select case when provider = 'ultravox' then 'hold' else 'user' end from installation),
    'user'
  ) as "zone_policy!",
  u.time_zone as user_zone
from lanes l
join users u on u.id = l.user_id
left join campaigns g on g.id = l.campaign_id
left join schedules s on s.id = g.schedule_id
left join user_settings p on p.user_id = l.user_id
where l.id = any ($1)
