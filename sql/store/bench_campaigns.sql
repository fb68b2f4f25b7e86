-- Campaigns with a lane each, for the benchmark of many open lanes.
-- $1 campaign_ids uuid[]   $2 user_id uuid   $3 lane_ids uuid[]
-- Used by bench::workloads.
with pair as materialized (
  select campaign_id, lane_id from unnest($1::uuid[], $3::uuid[]) as p(campaign_id, lane_id)
),
campaign as (
  insert into campaigns (id, user_id, name, script_id) select campaign_id, $2, 'open', 'bench' from pair
)
insert into lanes (id, user_id, campaign_id) select lane_id, $2, campaign_id from pair
