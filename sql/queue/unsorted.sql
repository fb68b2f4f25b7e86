-- Calls that plain SQL has brought in and that are in no lane of a zone yet.
-- $1 limit bigint
-- Used by queue::windows.
select c.id, c.user_id, c.phone, c.time_zone
from lanes l
join calls c on c.lane_id = l.id and c.state = 'waiting'
where l.country = '?'
limit $1
