-- Take what is due: endpoint by endpoint, so that a backlog of one costs nobody anything. Endpoints that are disabled, wait for their
-- next try or have enough on their way are passed over. Of each endpoint a few are taken, of one that fails one alone (a probe, which
-- no other process sends meanwhile); of each call and endpoint the first alone, so that events arrive in order; of each user no more
-- than its share, those with the fewest on their way first. Leased by the next time.
-- $1 after uuid: look at endpoints above   $2 looked bigint: at so many   $3 limit bigint   $4 lease_secs float8
-- $5 each bigint: on their way to one endpoint   $6 share bigint: of one user   $7 probes bigint: new ones
-- $8 busy_endpoints uuid[], $9 busy_endpoint_counts bigint[], $10 busy_users uuid[], $11 busy_user_counts bigint[]: on their way
-- Found by id, a delivery is asked for ended_at, not for its state: no index of what waits must be read for that.
-- Used by store::deliveries::take. A row of nulls: nothing; upto null: no endpoint is left above.
with recursive looked as (
  (
    select d.endpoint_id, d.due_at, 1::bigint as nth
    from deliveries d
    where d.state = 'waiting' and d.endpoint_id > $1
    order by d.endpoint_id, d.due_at
    limit 1
  )
  union all
  select n.endpoint_id, n.due_at, l.nth + 1
  from looked l
  cross join lateral (
    select d.endpoint_id, d.due_at
    from deliveries d
    where d.state = 'waiting' and d.endpoint_id > l.endpoint_id
    order by d.endpoint_id, d.due_at
    limit 1
  ) n
  where l.nth < $2
),
ready as materialized (
  select e.id, e.user_id, e.failures > 0 as failing, coalesce(u.n, 0) as on_their_way, v.room
  from looked l
  join webhook_endpoints e on e.id = l.endpoint_id
  left join unnest($8::uuid[], $9::bigint[]) as b (endpoint_id, n) on b.endpoint_id = e.id
  left join unnest($10::uuid[], $11::bigint[]) as u (user_id, n) on u.user_id = e.user_id
  cross join lateral (select case when e.failures > 0 then 1 else $5::bigint end - coalesce(b.n, 0) as room) v
  where l.due_at <= clock() and e.disabled_at is null and e.retry_at <= clock() and coalesce(u.n, 0) < $6 and v.room > 0
),
due as (
  select d.id, d.due_at, r.id as endpoint_id, r.failing,
    r.on_their_way + row_number() over (partition by r.user_id order by d.nth, d.due_at, d.id) as place
  from ready r
  cross join lateral (
    select f.id, f.due_at, row_number() over (order by f.due_at, f.id) as nth
    from (
      select d.id, d.due_at
      from deliveries d
      where d.endpoint_id = r.id and d.state = 'waiting' and d.due_at <= clock()
        and (d.call_id is null or d.id = (
          select b.id
          from deliveries b
          where b.endpoint_id = d.endpoint_id and b.call_id = d.call_id and b.state = 'waiting'
          order by b.id
          limit 1))
      order by d.due_at, d.id
      limit least(r.room, $6 - r.on_their_way)
    ) f
  ) d
),
chosen as materialized (
  select s.id, s.endpoint_id, s.failing
  from (
    select d.*, count(*) filter (where d.failing) over (order by d.place, d.due_at, d.id) as probes from due d where d.place <= $6
  ) s
  where not s.failing or s.probes <= $7
  order by s.place, s.due_at, s.id
  limit $3
),
probed as materialized (
  select e.id from webhook_endpoints e
  where e.id = any (array(select endpoint_id from chosen where failing)) and e.retry_at <= clock()
  for update skip locked
),
free as materialized (
  select d.id from deliveries d
  where d.id = any (array(select c.id from chosen c where not c.failing or c.endpoint_id in (select id from probed)))
    and d.ended_at is null and d.due_at <= clock()
  for update skip locked
),
taken as (
  update deliveries d
  set due_at = clock() + make_interval(secs => $4), attempts = d.attempts + 1
  from webhook_endpoints e
  where d.id = any (array(select id from free)) and e.id = d.endpoint_id
  returning d.id, d.endpoint_id, e.user_id, e.url, e.secret, e.failures,
    case when e.previous_secret_until > clock() then e.previous_secret end as previous_secret, d.attempts, d.payload::text as payload
),
leased as (
  update webhook_endpoints e
  set retry_at = clock() + make_interval(secs => $4)
  where e.id = any (array(select p.id from probed p join taken t on t.endpoint_id = p.id))
)
select w.upto, t.id, t.endpoint_id, t.user_id, t.url, t.secret, t.previous_secret, t.failures, t.attempts, t.payload
from (select (select l.endpoint_id from looked l where l.nth = $2) as upto) w
left join taken t on true
