-- Send an ended delivery again, with a day of tries; not to an endpoint that is disabled.
-- $1 endpoint_id uuid   $2 id uuid
-- Used by store::deliveries::replay.
update deliveries set state = 'waiting', ended_at = null, due_at = clock(), attempts = 0
where endpoint_id = $1 and id = $2 and state <> 'waiting'
  and exists (select from webhook_endpoints e where e.id = $1 and e.disabled_at is null)
