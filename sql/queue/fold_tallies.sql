-- Fold up to $1 deltas into the tallies.
-- $1 limit bigint. Used by queue::fold_tallies.
with taken as (
  delete from tally_deltas
  where ctid = any (array(select ctid from tally_deltas limit $1))
  returning lane_id, user_id, campaign_id, what, n
),
folded as (
  insert into tallies as t (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, sum(n) from taken group by lane_id, user_id, campaign_id, what
  on conflict on constraint tallies_pkey do update set n = t.n + excluded.n
)
select count(*) as "n!" from taken
