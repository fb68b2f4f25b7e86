-- Bring back who was parked behind these numbers, and wake their lanes; how many that were.
-- Needs the admission lock. Used by queue::unpark; called by turn, tend and suppress_numbers.
create or replace function bring_back(phones text[]) returns integer
language plpgsql
as $$
declare
  lanes   uuid[];
  dues    timestamptz[];
  urgents boolean[];
begin
  select array_agg(u.lane_id), array_agg(u.due_at), array_agg(u.rank < 2) into lanes, dues, urgents from unpark_calls(phones) u;
  if lanes is not null then
    perform wake_lanes(lanes, dues, urgents);
  end if;
  return coalesce(cardinality(lanes), 0);
end
$$;
