-- A paused campaign with its lane, for the benchmark of a blocked backlog.
-- $1 campaign_id uuid   $2 user_id uuid   $3 lane_id uuid
-- Used by bench::workloads.
with campaign as (
  insert into campaigns (id, user_id, name, script_id, paused) values ($1, $2, 'paused', 'bench', true)
)
insert into lanes (id, user_id, campaign_id, paused, blocked_on) values ($3, $2, $1, true, 'pause')
