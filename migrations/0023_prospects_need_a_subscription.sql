-- A subscription that goes takes the calls to prospects with it, promised ones too: they wait until there is one again.
create or replace function subscriptions_let_go() returns trigger
language plpgsql
as $$
declare
  unsorted uuid;
begin
  perform wake_user(old.user_id);
  if exists (select from calls where user_id = old.user_id and prospect_id is not null and state in ('waiting', 'parked')) then
    unsorted := unsorted_lane(old.user_id);
    with moved as (
      update calls n
      set lane_id = unsorted, state = 'waiting', updated_at = clock()
      from calls c
      where n.user_id = old.user_id and n.prospect_id is not null and n.state in ('waiting', 'parked') and n.lane_id <> unsorted
        and c.id = n.id
      returning c.lane_id as was
    )
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    select was, old.user_id, null::uuid, 'PENDING', -count(*) from moved group by was
    union all
    select unsorted, old.user_id, null, 'PENDING', count(*) from moved having count(*) > 0;
  end if;
  return null;
end
$$;

-- An appointment agreed for a time that had passed is shown as such: somebody has to ask again.
alter table appointments add column in_past boolean generated always as (starts_at < created_at) stored;
comment on column appointments.in_past is 'The agent told a time that had passed when it was told.';
