-- Forget up to $1 spans that have begun: nobody sums them any more.
-- $1 limit bigint. Used by queue::fold_tallies.
delete from later_tallies
where ctid = any (array(
  select t.ctid
  from later_spans s
  join later_tallies t on t.span_secs = s.secs and t.starts_at < clock() and t.n is not null
  limit $1
))
