-- Attempts that a process was dialing when its lease ran out, or that it has been dialing for longer than any request may take: nobody
-- knows whether the provider has them. They keep slot and number.
-- $1 limit bigint   $2 dialing_secs_max float8: no process sends its request later than this
-- Used by queue::doubt_of_the_dead. The request may have left until the lease ended, or until now, so doubt counts from there.
update attempts a
set
  state = 'unknown', revision = a.revision + 1, check_at = clock(),
  sent_at = greatest(a.claimed_at, least(clock(), coalesce((select i.lease_until from instances i where i.id = a.instance_id), clock())))
where a.id = any (array(
  select d.id from attempts d
  where d.ended_at is null and d.state = 'dialing'
    and (d.claimed_at <= clock() - make_interval(secs => $2)
      or not exists (select from instances i where i.id = d.instance_id and i.lease_until > clock()))
  limit $1
  for update skip locked
))
returning a.id
