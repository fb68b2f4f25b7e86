-- Wake what slept because users or campaigns were at their limit: slots of theirs are free now.
-- Needs the admission lock. Called by turn.
create or replace function free_slots(user_ids uuid[], campaign_ids uuid[]) returns void
language plpgsql
as $$
#variable_conflict use_column
begin
with woken as (
  update lanes
  set next_at = clock(), urgent_at = urgent_of(id), blocked_on = null
  where user_id = any ($1)
    and (blocked_on = 'user' or (blocked_on = 'campaign' and campaign_id = any ($2)))
  returning user_id
)
update user_turns
set next_at = clock(), blocked_on = null
where user_id = any ($1) and (blocked_on = 'user' or (blocked_on is null and user_id in (select user_id from woken)));
end
$$;
