-- A user's prospects, newest first.
-- $1 user_id uuid   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::prospects::list.
select
  id as "id!", user_id as "user_id!", external_id, name, phone as "phone!", status as "status!", time_zone, rescheduled_for,
  reschedules as "reschedules!", last_contacted_at, disposition, variables as "variables!: RawJson", call_id, created_at as "created_at!",
  updated_at as "updated_at!"
from ops.prospects
where user_id = $1 and ($2::uuid is null or id < $2)
order by id desc
limit $3 offset $4
