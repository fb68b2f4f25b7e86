-- Fold the counts of calls of a later time into each span that holds it. Spans that have begun are never summed: nothing is kept of
-- them.
-- $1 limit bigint. Used by queue::fold_tallies.
with taken as (
  delete from later_deltas
  where ctid = any (array(select ctid from later_deltas limit $1))
  returning lane_id, due_at, reason, n
),
folded as (
  insert into later_tallies as t (lane_id, span_secs, starts_at, reason, n)
  select lane_id, secs, span_start(due_at, secs) as starts_at, reason, sum(n)
  from taken
  cross join later_spans
  where span_start(due_at, secs) > clock()
  group by lane_id, secs, starts_at, reason
  having sum(n) <> 0
  on conflict on constraint later_tallies_pkey do update set n = t.n + excluded.n
)
select count(*) as "n!" from taken
