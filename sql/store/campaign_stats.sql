-- Counts of a campaign, from the tallies: exact at any moment, however many calls it has.
-- $1 campaign_id uuid
-- Used by store::campaigns::stats.
select
  total as "total!", pending as "pending!", in_progress as "in_progress!", completed as "completed!", failed as "failed!",
  expired as "expired!", canceled as "canceled!", retries_attempted as "retries_attempted!"
from ops.campaigns where id = $1
