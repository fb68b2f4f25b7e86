-- What decides when lanes $1 are open: the campaign's schedule, or for single calls the user's own hours. A user without those keeps to
-- the legal hours, where these are obeyed, and may otherwise call at any hour; so may who was told to ignore windows (zone `*`). A zone
-- policy that is not given is the provider's: hold where real people are called by a carrier, user elsewhere. And whether calls of these
-- lanes may be dialed at all, by their country and kind of number.
-- $1 lane_ids uuid[]
-- Needs the lock of windows. Used by queue::windows.
select
  l.id, l.country, l.zones, coalesce(g.hours_in, 'schedule') as "hours_in!",
  l.campaign_id is null and (l.country = '*' or '*' = any (l.zones) or (p.opens is null and not coalesce(i.obeys_hours, false))) as "always!",
  case
    when l.campaign_id is not null then s.time_zone
    when p.opens is not null then coalesce(u.time_zone, 'Etc/UTC')
  end as schedule_zone,
  case
    when l.campaign_id is null and p.opens is not null then jsonb_build_array(jsonb_build_object(
      'days', '["mon","tue","wed","thu","fri","sat","sun"]'::jsonb,
      'opens', to_char(p.opens, 'HH24:MI'), 'closes', to_char(p.closes, 'HH24:MI')))
    else s.hours
  end as "hours: RawJson",
  s.closed_dates as "closed_dates?",
  coalesce(
    case when l.campaign_id is null then p.zone_policy else g.zone_policy end,
    case when i.provider = 'ultravox' then 'hold' end,
    'user'
  ) as "zone_policy!",
  u.time_zone as user_zone,
  case
    when not coalesce(i.obeys_destinations, false) then null
    when l.destination = 'IMPOSSIBLE' then 'INVALID_NUMBER'
    when l.destination <> 'ORDINARY' and l.destination <> all (u.allowed_destinations) then 'DESTINATION_NOT_ALLOWED'
    -- What is in no country (satellites, numbers of nobody) is allowed by its kind.
    when l.country ~ '^[A-Z]{2}$' and not (l.country = any (c.allowed) or '*' = any (c.allowed)) then 'DESTINATION_NOT_ALLOWED'
  end as barred
from lanes l
join users u on u.id = l.user_id
left join installation i on true
cross join lateral (select coalesce(u.allowed_countries, i.countries, '{*}') as allowed) c
left join campaigns g on g.id = l.campaign_id
left join schedules s on s.id = g.schedule_id
left join user_settings p on p.user_id = l.user_id
where l.id = any ($1)
