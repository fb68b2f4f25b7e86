-- Phone numbers, newest first.
-- $1 user_id uuid?   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::phone_numbers::list.
select id, user_id, external_id, phone as number, status, created_at, updated_at
from phone_numbers
where ($1::uuid is null or user_id = $1) and ($2::uuid is null or id < $2)
order by id desc
limit $3 offset $4
