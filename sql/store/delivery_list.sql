-- Deliveries to an endpoint, newest first. What waits is tried no sooner than its endpoint.
-- $1 endpoint_id uuid   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::deliveries::of_endpoint.
select
  d.id, d.call_id, d.type, d.state, d.attempts, d.last_status, d.last_error,
  case when d.state = 'waiting' then greatest(d.due_at, (select e.retry_at from webhook_endpoints e where e.id = $1)) end as next_at,
  d.created_at, d.ended_at
from deliveries d
where d.endpoint_id = $1 and ($2::uuid is null or d.id < $2)
order by d.id desc
limit $3 offset $4
