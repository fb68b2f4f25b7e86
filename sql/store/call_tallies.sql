-- Calls by status, of one user or of all, without counting them.
-- $1 user_id uuid?   $2 campaign_id uuid?
-- Used by store::calls::tallies.
select what as "status!", sum(n)::bigint as "n!"
from (
  select what, n from tallies
  where ($1::uuid is null or user_id = $1) and ($2::uuid is null or campaign_id = $2)
  union all
  select what, n from tally_deltas
  where ($1::uuid is null or user_id = $1) and ($2::uuid is null or campaign_id = $2)
) t
group by what
