-- Forget spans that are over: nobody sums them any more. A minute is left, should the clock be set back.
-- $1 limit bigint. Used by queue::fold_tallies.
delete from later_tallies
where ctid = any (array(
  select t.ctid
  from later_spans s
  join later_tallies t on t.span_secs = s.secs and t.starts_at < clock() - make_interval(secs => s.secs + 60)
  limit $1
))
