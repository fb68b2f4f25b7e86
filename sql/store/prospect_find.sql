-- The user's prospect with this id or external id.
-- $1 id uuid?   $2 external_id text?   $3 user_id uuid
-- Used by store::prospects::find.
select
  id as "id!", user_id as "user_id!", external_id, name, phone as "phone!", status as "status!", time_zone, rescheduled_for,
  reschedules as "reschedules!", last_contacted_at, disposition, variables as "variables!: RawJson", call_id, created_at as "created_at!",
  updated_at as "updated_at!"
from ops.prospects
where id in (select id from prospects where id = $1 union all select id from prospects where user_id = $3 and external_id = $2)
  and user_id = $3
limit 2
