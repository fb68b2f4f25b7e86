-- Put calls into their lanes, a verdict each. A call that is due for a busy number is parked at once.
-- $1 ids uuid[]            $2 user_ids uuid[]         $3 lane_ids uuid[]          $4 campaign_ids uuid[]?
-- $5 ranks smallint[]      $6 priorities smallint[]   $7 due_ats timestamptz[]?, null = now
-- $8 expires_ats timestamptz[]?   $9 phones text[]    $10 script_ids text[]       $11 metadata jsonb[]
-- $12 variables jsonb[]    $13 external_ids text[]?   $14 time_zones text[]?      $15 ignore_windows bool[]
-- $16 dials_maxes smallint[]      $17 rejects bool[]: no second waiting or live call of this user to the number
-- Needs the admission lock, shared. Used by queue::enqueue.
with now as materialized (
  select clock() as at
),
item as materialized (
  select
    i.*,
    exists (select from suppressions s
            where s.phone = i.phone and s.user_id in (i.user_id, '00000000-0000-7000-8000-000000000001')) as suppressed,
    case when i.reject then coalesce(
      (select c.id from calls c
       where c.phone = i.phone and c.user_id = i.user_id and c.state in ('waiting', 'parked', 'live') and c.id <> i.id
       order by c.id desc
       limit 1),
      nullif(first_value(i.id) over (partition by i.user_id, i.phone order by i.nth), i.id)
    ) end as twin_id
  from unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::smallint[], $6::smallint[], $7::timestamptz[], $8::timestamptz[],
    $9::text[], $10::text[], $11::jsonb[], $12::jsonb[], $13::text[], $14::text[], $15::bool[], $16::smallint[], $17::bool[]
  ) with ordinality as i(
    id, user_id, lane_id, campaign_id, rank, priority, due_at, expires_at,
    phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max, reject, nth
  )
),
created as (
  insert into calls (
    id, user_id, lane_id, campaign_id, state, rank, priority, due_at, created_at, updated_at, expires_at,
    phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max
  )
  select
    i.id, i.user_id, i.lane_id, i.campaign_id,
    case when coalesce(i.due_at, n.at) <= n.at
           and exists (select from attempts a where a.phone = i.phone and a.ended_at is null)
         then 'parked'::call_state else 'waiting' end,
    i.rank, i.priority, coalesce(i.due_at, n.at), n.at, n.at, i.expires_at,
    i.phone, i.script_id, i.metadata, i.variables, i.external_id, i.time_zone, i.ignore_window, i.dials_max
  from item i
  cross join now n
  where not i.suppressed and i.twin_id is null
  order by i.nth
  on conflict do nothing
  returning id, user_id, lane_id, campaign_id, state, rank, due_at, created_at
),
tallied as (
  insert into tally_deltas (user_id, campaign_id, what, n)
  select user_id, campaign_id, 'PENDING', count(*) from created group by user_id, campaign_id
)
select
  i.nth as "nth!", i.suppressed as "suppressed!", i.twin_id, c.id is not null as "created!",
  c.created_at as "created_at?", c.due_at as "due_at?",
  coalesce(c.state = 'waiting' and exists (
    select from lanes l
    where l.id = c.lane_id and l.blocked_on is null
      and (l.next_at > c.due_at or (c.rank < 2 and l.urgent_at > c.due_at))
  ), false) as "wakes!"
from item i
left join created c on c.id = i.id
order by i.nth
