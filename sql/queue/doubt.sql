-- Attempts that a process was dialing when its lease ran out: nobody knows whether the provider has them. They keep slot and number.
-- $1 limit bigint
-- Used by queue::doubt_of_the_dead. The request may have left until the lease ended, so doubt counts from there.
update attempts a
set
  state = 'unknown', revision = a.revision + 1, check_at = clock(),
  sent_at = greatest(a.claimed_at, coalesce((select i.lease_until from instances i where i.id = a.instance_id), clock()))
where a.id = any (array(
  select d.id from attempts d
  where d.ended_at is null and d.state = 'dialing'
    and not exists (select from instances i where i.id = d.instance_id and i.lease_until > clock())
  limit $1
  for update skip locked
))
returning a.id
