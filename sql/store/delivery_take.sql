-- Take what is due: of each call and endpoint the first alone, so that events arrive in order. Leased by its next time.
-- $1 limit bigint   $2 lease_secs float8
-- Used by store::deliveries::take.
with due as materialized (
  select d.id
  from deliveries d
  join webhook_endpoints e on e.id = d.endpoint_id and e.disabled_at is null
  where d.state = 'waiting' and d.due_at <= clock()
    and not exists (
      select from deliveries b
      where b.endpoint_id = d.endpoint_id and b.call_id = d.call_id and b.state = 'waiting' and b.id < d.id)
  order by d.due_at
  limit $1
  for update of d skip locked
)
update deliveries d
set due_at = clock() + make_interval(secs => $2), attempts = d.attempts + 1
from webhook_endpoints e
where d.id = any (array(select id from due)) and e.id = d.endpoint_id
returning d.id, d.endpoint_id, e.url, e.secret, d.payload, d.attempts
