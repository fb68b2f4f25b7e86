-- What metered users among these may still dial; no row: none is metered. The view costs as much to begin as the rest of a claim, so that
-- it is looked at only where somebody is.
-- Called by claim_calls and tidy_lanes.
create or replace function quotas_of(user_ids uuid[]) returns setof quotas
language plpgsql
as $$
#variable_conflict use_column
begin
  if exists (
    select from users u
    where u.id = any (user_ids)
      and (u.daily_minutes_max is not null or u.daily_cost_max is not null or exists (select from subscriptions where user_id = u.id))
  ) then
    return query
    select q.*
    from (select distinct unnest(user_ids) as user_id) u
    cross join lateral (select * from quotas where user_id = u.user_id offset 0) q;
  end if;
end
$$;
