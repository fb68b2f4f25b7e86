-- Wake what slept because users $1 or campaigns $2 were at their limit: slots of theirs are free now.
-- $1 user_ids uuid[]   $2 campaign_ids uuid[]
-- Needs the admission lock. Used by queue::free.
with woken as (
  update lanes
  set next_at = clock(), urgent_at = urgent_of(id), blocked_on = null
  where user_id = any ($1)
    and (blocked_on = 'user' or (blocked_on = 'campaign' and campaign_id = any ($2)))
  returning user_id
)
update user_turns
set next_at = clock(), blocked_on = null
where user_id = any ($1) and (blocked_on = 'user' or (blocked_on is null and user_id in (select user_id from woken)))
