-- Fold the deltas into the tallies.
-- Used by queue::fold_tallies.
with taken as (
  delete from tally_deltas returning user_id, campaign_id, what, n
)
insert into tallies as t (user_id, campaign_id, what, n)
select user_id, campaign_id, what, sum(n) from taken group by user_id, campaign_id, what
on conflict on constraint tallies_key do update set n = t.n + excluded.n
