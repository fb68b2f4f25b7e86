-- One transaction of its own: takes the admission lock, tidies lanes (tidy_lanes), and brings back who was parked behind what left them.
-- Used by queue::tend.
create or replace function tend(
  lane_ids uuid[], user_ids uuid[], dial_guard_secs double precision, each bigint, dials_per_day integer, gap_secs double precision
) returns table (at timestamptz, moved bigint, next_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
declare
  tidied record;
begin
  perform admission_lock(false);
  select * into tidied from tidy_lanes($1, $2, $3, $4, $5, $6, wall_clock());
  -- A head that expired or was suppressed has left its number: the next in line comes back.
  if cardinality(tidied.dropped) > 0 then
    perform bring_back(tidied.dropped);
  end if;
  return query select tidied.at, tidied.put_off + cardinality(tidied.dropped), tidied.next_at;
end
$$;
