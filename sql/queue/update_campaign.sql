-- Change a campaign; null keeps a field, and the two that may be emptied have a flag. Limits and pauses act at once: lanes at a limit
-- that rose wake up, paused ones sleep.
-- $1 id uuid   $2 name text?   $3 script_id text?   $4 max_concurrent_calls int?   $5 max_retries int?   $6 retry_delay_secs int?
-- $7 hours_in text?   $8 schedule_given bool   $9 schedule_id uuid?   $10 policy_given bool   $11 zone_policy text?   $12 paused bool?
-- Needs the admission lock, exclusive. Used by queue::update_campaign.
with changed as (
  update campaigns
  set
    name = coalesce($2, name), script_id = coalesce($3, script_id), max_concurrent_calls = coalesce($4, max_concurrent_calls),
    max_retries = coalesce($5, max_retries), retry_delay_secs = coalesce($6, retry_delay_secs), hours_in = coalesce($7, hours_in),
    schedule_id = case when $8 then $9 else schedule_id end,
    zone_policy = case when $10 then $11 else zone_policy end,
    paused = coalesce($12, paused) or canceled_at is not null,
    updated_at = clock()
  where id = $1
  returning id, user_id, paused
),
moved as (
  update lanes l
  set
    paused = g.paused,
    blocked_on = case when l.blocked_on in ('pause', 'campaign') then null else l.blocked_on end,
    next_at = case when l.blocked_on in ('pause', 'campaign') then clock() else l.next_at end,
    urgent_at = case when l.blocked_on in ('pause', 'campaign') then urgent_of(l.id) else l.urgent_at end
  from changed g
  where l.campaign_id = $1 and l.campaign_id = g.id
    and (l.paused <> g.paused or l.blocked_on in ('pause', 'campaign'))
),
turned as (
  update user_turns t
  set next_at = clock()
  from changed g
  where t.user_id = g.user_id and t.blocked_on is null and t.next_at > clock()
)
select id from changed
