-- Fold the deltas into the tallies.
-- Used by queue::fold_tallies.
with taken as (
  delete from tally_deltas returning lane_id, user_id, campaign_id, what, n
)
insert into tallies as t (lane_id, user_id, campaign_id, what, n)
select lane_id, user_id, campaign_id, what, sum(n) from taken group by lane_id, user_id, campaign_id, what
on conflict on constraint tallies_pkey do update set n = t.n + excluded.n
