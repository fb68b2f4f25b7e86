-- Drop deliveries that ended so many days ago, the oldest first; some of them at a time.
-- $1 days int   $2 limit bigint
-- Used by store::deliveries::prune.
delete from deliveries
where id = any (array(
  select d.id from deliveries d where d.ended_at < clock() - make_interval(days => $1) order by d.ended_at limit $2 for update skip locked))
