-- Endpoints that are disabled or deleted while something still waits for them: what was written in the same moment, or what a process
-- that ended had no time to give up.
-- Used by store::deliveries::sweep.
with recursive looked as (
  (select d.endpoint_id from deliveries d where d.state = 'waiting' order by d.endpoint_id, d.due_at limit 1)
  union all
  select (select d.endpoint_id from deliveries d where d.state = 'waiting' and d.endpoint_id > l.endpoint_id order by d.endpoint_id, d.due_at limit 1)
  from looked l
  where l.endpoint_id is not null
)
select l.endpoint_id as "id!", e.disabled_reason as reason
from looked l
left join webhook_endpoints e on e.id = l.endpoint_id
where l.endpoint_id is not null and (e.id is null or e.disabled_at is not null)
