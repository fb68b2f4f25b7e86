-- Deliveries to an endpoint, newest first.
-- $1 endpoint_id uuid   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::deliveries::of_endpoint.
select
  id, call_id, type, state, attempts, last_status, last_error, case when state = 'waiting' then due_at end as next_at, created_at, ended_at
from deliveries
where endpoint_id = $1 and ($2::uuid is null or id < $2)
order by id desc
limit $3 offset $4
