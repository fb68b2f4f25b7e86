-- Take what is due: of each call and endpoint the first alone, so that events arrive in order, and of each endpoint a few, so that a
-- slow one leaves room for the others. Leased by its next time.
-- $1 limit bigint   $2 lease_secs float8   $3 busy uuid[]: endpoints with enough on their way   $4 each bigint: of one endpoint
-- Used by store::deliveries::take.
with due as materialized (
  select d.id, row_number() over (partition by d.endpoint_id order by d.due_at, d.id) as nth
  from deliveries d
  where d.state = 'waiting' and d.due_at <= clock() and d.endpoint_id <> all ($3)
    and exists (select from webhook_endpoints e where e.id = d.endpoint_id and e.disabled_at is null)
    and not exists (
      select from deliveries b
      where b.endpoint_id = d.endpoint_id and b.call_id = d.call_id and b.state = 'waiting' and b.id < d.id)
),
taken as materialized (
  select d.id from deliveries d
  where d.id = any (array(select id from due where nth <= $4 order by nth, id limit $1)) and d.state = 'waiting' and d.due_at <= clock()
  for update skip locked
)
update deliveries d
set due_at = clock() + make_interval(secs => $2), attempts = d.attempts + 1
from webhook_endpoints e
where d.id = any (array(select id from taken)) and e.id = d.endpoint_id
returning d.id, d.endpoint_id, e.url, e.secret, d.payload, d.attempts
