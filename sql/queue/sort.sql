-- Move calls into the lanes they belong to, with their numbers in canonical form, and wake those lanes. A call or a lane that somebody
-- holds is left for another time. A call whose number is in its campaign already, written otherwise, ends.
-- $1 call_ids uuid[]   $2 lane_ids uuid[]   $3 numbers text[]
-- Needs the admission lock, shared. Used by queue::windows.
with unheld as materialized (
  select l.id
  from lanes l
  join user_turns t on t.user_id = l.user_id
  where l.id = any ($2)
  for no key update of l, t skip locked
),
item as materialized (
  select i.id, i.lane_id, identity_of(i.number) as phone, nullif(i.number, identity_of(i.number)) as given
  from unnest($1::uuid[], $2::uuid[], $3::text[]) as i(id, lane_id, number)
  where i.lane_id in (select id from unheld)
),
was as materialized (
  select c.id, c.lane_id, c.campaign_id, c.state from calls c
  where c.id = any (array(select id from item)) and c.state in ('waiting', 'parked')
  for update skip locked
),
twice as materialized (
  select w.id
  from was w
  join item i on i.id = w.id
  where exists (select from calls t where t.campaign_id = w.campaign_id and t.phone = i.phone and t.id <> w.id)
),
ended as (
  update calls
  set state = 'canceled', disposition = 'CANCELED', ended_at = clock(), updated_at = clock()
  where id = any (array(select id from twice)) and state in ('waiting', 'parked')
  returning id, user_id, campaign_id, lane_id
),
moved as (
  -- What was parked looks anew whether its number is free.
  update calls c
  set lane_id = i.lane_id, phone = i.phone, given = i.given, state = 'waiting'
  from was w
  join item i on i.id = w.id
  where w.id <> all (array(select id from twice)) and c.id = w.id
  returning c.id, c.user_id, c.campaign_id, c.lane_id, c.due_at, c.rank
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, sum(n)
  from (
    select w.lane_id, m.user_id, m.campaign_id, 'PENDING' as what, -1 as n from moved m join was w on w.id = m.id
    union all
    select lane_id, user_id, campaign_id, 'PENDING', 1 from moved
    union all
    select e.lane_id, e.user_id, e.campaign_id, v.what, v.n from ended e cross join (values ('PENDING', -1), ('CANCELED', 1)) as v(what, n)
  ) t
  group by lane_id, user_id, campaign_id, what
),
due as materialized (
  select lane_id, user_id, min(due_at) as next_at, coalesce(min(due_at) filter (where rank < 2), 'infinity') as urgent_at
  from moved
  group by lane_id, user_id
),
woken as (
  update lanes l
  set next_at = least(l.next_at, d.next_at), urgent_at = least(l.urgent_at, d.urgent_at)
  from due d
  where l.id = any ($2) and l.id = d.lane_id and l.blocked_on is null
),
turned as (
  update user_turns t
  set next_at = least(t.next_at, d.next_at)
  from (select user_id, min(next_at) as next_at from due group by user_id) d
  where t.user_id = any (array(select user_id from due)) and t.user_id = d.user_id and t.blocked_on is null
)
select (select count(*) from moved) + (select count(*) from ended) as "moved!"
