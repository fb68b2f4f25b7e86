-- Plans, newest first.
-- $1 below uuid?   $2 limit bigint   $3 offset bigint
-- Used by store::plans::list.
select id, external_id, name, price::float8 as "price!", minutes, duration_days as duration, per_day, created_at, updated_at
from plans
where $1::uuid is null or id < $1
order by id desc
limit $2 offset $3
