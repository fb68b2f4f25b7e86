-- Bring back the best parked call of each lane for each number of $1 that is on no call.
-- $1 phones text[]
-- Needs the admission lock. Used by queue::unpark. Hops from lane to lane, so a hundred thousand parked calls cost one probe.
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
returning lane_id, due_at, rank
