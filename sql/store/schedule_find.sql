-- Schedules with this id or external id: more than one when users share an external id.
-- $1 id uuid?   $2 external_id text?   $3 user_id uuid?, null = of anybody
-- Used by store::schedules::find.
select id, user_id, external_id, name, time_zone, hours as "hours: RawJson", closed_dates, created_at, updated_at
from schedules
where id in (select id from schedules where id = $1 union all select id from schedules where external_id = $2)
  and ($3::uuid is null or user_id = $3)
limit 2
