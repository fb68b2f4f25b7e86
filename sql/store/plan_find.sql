-- Plans with this id or external id.
-- $1 id uuid?   $2 external_id text?
-- Used by store::plans::find.
select id, external_id, name, price::float8 as "price!", minutes, duration_days as duration, per_day, created_at, updated_at
from plans
where id in (select id from plans where id = $1 union all select id from plans where external_id = $2)
limit 2
