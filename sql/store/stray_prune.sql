-- Forget up to $2 events that matched no call for $1 days.
-- $1 days int   $2 limit bigint
-- Used by store::strays::prune.
delete from stray_events
where ctid = any (array(
  select ctid from stray_events where received_at < clock() - make_interval(days => $1) limit $2
))
