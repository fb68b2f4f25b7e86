-- Note what came of a try. An endpoint that is gone is disabled, and what is on its way to it given up.
-- $1 id uuid   $2 state text   $3 status int?   $4 error text?   $5 again_secs float8   $6 gone bool
-- Used by store::deliveries::settle.
with settled as (
  update deliveries
  set
    state = $2, last_status = $3, last_error = $4, due_at = clock() + make_interval(secs => $5),
    ended_at = case when $2 <> 'waiting' then clock() end
  where id = $1 and state = 'waiting'
  returning endpoint_id
),
disabled as (
  update webhook_endpoints set disabled_at = coalesce(disabled_at, clock()), updated_at = clock()
  where $6 and id in (select endpoint_id from settled)
  returning id
)
update deliveries set state = 'dead', ended_at = clock(), last_error = $4
where state = 'waiting' and id <> $1 and endpoint_id = any (array(select id from disabled))
