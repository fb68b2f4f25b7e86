-- Give up what waits for an endpoint that is disabled or deleted; some of it at a time.
-- $1 endpoint_id uuid   $2 error text   $3 limit bigint
-- Used by store::deliveries::give_up.
update deliveries set state = 'dead', ended_at = clock(), last_error = $2
where id = any (array(
  select d.id from deliveries d where d.endpoint_id = $1 and d.state = 'waiting' order by d.due_at, d.id limit $3 for update skip locked))
