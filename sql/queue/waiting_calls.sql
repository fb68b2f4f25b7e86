-- Calls that wait, with the lanes they wait in, from one id on: for looking whether they still belong there.
-- $1 after uuid   $2 limit bigint
-- Used by queue::windows.
select c.id, c.user_id, c.campaign_id, coalesce(c.given, c.phone) as "phone!", c.time_zone, l.country, l.zones, l.destination
from calls c
join lanes l on l.id = c.lane_id
where c.id > $1 and c.state in ('waiting', 'parked') and l.country not in ('?', '*') and l.id <> '00000000-0000-7000-8000-000000000001'
order by c.id
limit $2
