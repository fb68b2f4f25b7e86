-- Forget events that matched no call for $1 days.
-- $1 days int
-- Used by store::strays::prune.
delete from stray_events where received_at < clock() - make_interval(days => $1)
