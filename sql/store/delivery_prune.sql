-- Drop deliveries that ended so many days ago.
-- $1 days int
-- Used by store::deliveries::prune.
delete from deliveries where ended_at < clock() - make_interval(days => $1)
