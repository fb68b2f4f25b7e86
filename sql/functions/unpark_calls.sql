-- Bring back the best parked call of each lane for each number that is on no call.
-- Needs the admission lock. Called by bring_back. Hops from lane to lane, so a hundred thousand parked calls cost one probe.
-- Plan pinned by tests/it/plans.rs.
create or replace function unpark_calls(phones text[]) returns table (lane_id uuid, due_at timestamptz, rank smallint)
language plpgsql
as $$
#variable_conflict use_column
begin
  return query
with recursive number as materialized (
  select distinct p.phone
  from unnest($1::text[]) as p(phone)
  where not exists (select from attempts a where a.phone = p.phone and a.ended_at is null)
),
hop as (
  select n.phone, f.lane_id, f.id
  from number n
  cross join lateral (
    select c.lane_id, c.id from calls c
    where c.state = 'parked' and c.phone = n.phone
    order by c.lane_id, c.rank, c.due_at, c.id
    limit 1
  ) f
  union all
  select h.phone, f.lane_id, f.id
  from hop h
  cross join lateral (
    select c.lane_id, c.id from calls c
    where c.state = 'parked' and c.phone = h.phone and c.lane_id > h.lane_id
    order by c.lane_id, c.rank, c.due_at, c.id
    limit 1
  ) f
)
update calls
set state = 'waiting', updated_at = clock()
where state = 'parked' and id = any (array(
  -- One that somebody holds is brought back as an orphan, a little later.
  select id from calls where id = any (array(select id from hop)) for update skip locked
))
returning lane_id, due_at, rank;
end
$$;
