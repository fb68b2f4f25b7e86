-- Cancel a campaign for good: nothing of it is dialed from now on, hang-ups are asked for what is live. Its waiting calls are ended
-- by sweep_canceled.
-- $1 id uuid   $2 deletes bool: hide it too
-- Needs the admission lock, exclusive. Used by queue::cancel_campaign.
with canceled as (
  update campaigns
  set canceled_at = coalesce(canceled_at, clock()), deleted_at = case when $2 then clock() else deleted_at end,
    schedule_id = case when $2 then null else schedule_id end,
    external_id = case when $2 then null else external_id end, paused = true, updated_at = clock()
  where id = $1
  returning id
),
lanes_stopped as (
  update lanes set paused = true, refresh_at = 'infinity' where campaign_id = $1 and (not paused or refresh_at < 'infinity')
),
live as (
  update calls c
  set cancel_requested_at = coalesce(c.cancel_requested_at, clock()), updated_at = clock()
  where c.state = 'live' and c.id = any (array(select call_id from attempts where campaign_id = $1 and ended_at is null))
  returning c.id, c.attempt_number
),
hung_up as (
  update attempts a
  set hang_up_at = clock(), revision = a.revision + 1
  from live c
  where a.ended_at is null and a.call_id = c.id and a.number = c.attempt_number
)
select id from canceled
