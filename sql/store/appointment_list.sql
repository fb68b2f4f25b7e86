-- Appointments, newest first.
-- $1 user_id uuid?   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::prospects::appointments.
select id, user_id, prospect_id, call_id, attempt_id as conversation_id, starts_at, coalesce(in_past, false) as "in_past!", created_at
from appointments
where ($1::uuid is null or user_id = $1) and ($2::uuid is null or id < $2)
order by id desc
limit $3 offset $4
