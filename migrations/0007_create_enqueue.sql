-- The one door into the queue: one trip takes the lock, inserts, wakes and (outside a transaction) commits.

create function enqueue(
  ids uuid[], user_ids uuid[], lane_ids uuid[], campaign_ids uuid[], ranks smallint[], priorities smallint[],
  due_ats timestamptz[], expires_ats timestamptz[], phones text[], script_ids text[], metadata jsonb[], variables jsonb[],
  external_ids text[], time_zones text[], ignore_windows bool[], dials_maxes smallint[], rejects bool[], prospect_ids uuid[]
) returns table (nth bigint, suppressed boolean, twin_id uuid, created_at timestamptz, due_at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
  -- A statement of its own, before the one that reads: that one sees what was committed by then.
  perform pg_advisory_xact_lock_shared(7001);
  -- Two creators that each refuse duplicates must not both see none. Sorted, so that they never wait for each other.
  if true = any ($17) then
    perform pg_advisory_xact_lock(7002, hashtext(phone))
    from (select distinct p.phone from unnest($9, $17) as p(phone, reject) where p.reject order by p.phone) numbers;
  end if;
  -- Whom a person has deleted, decided about or renumbered meanwhile is not called.
  if array_remove($18, null) <> '{}' then
    perform from prospects p where p.id = any ($18) order by p.id for update;
  end if;
  return query
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
      $9::text[], $10::text[], $11::jsonb[], $12::jsonb[], $13::text[], $14::text[], $15::bool[], $16::smallint[], $17::bool[],
      $18::uuid[]
    ) with ordinality as i(
      id, user_id, lane_id, campaign_id, rank, priority, due_at, expires_at,
      phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max, reject, prospect_id, nth
    )
  ),
  created as (
    insert into calls (
      id, user_id, lane_id, campaign_id, state, rank, priority, due_at, created_at, updated_at, expires_at,
      phone, script_id, metadata, variables, external_id, time_zone, ignore_window, dials_max, prospect_id
    )
    select
      i.id, i.user_id, i.lane_id, i.campaign_id,
      case when coalesce(i.due_at, n.at) <= n.at
             and exists (select from attempts a where a.phone = i.phone and a.ended_at is null)
           then 'parked'::call_state else 'waiting' end,
      i.rank, i.priority, coalesce(i.due_at, n.at), n.at, n.at, i.expires_at,
      i.phone, i.script_id, i.metadata, i.variables, i.external_id, i.time_zone, i.ignore_window, i.dials_max, i.prospect_id
    from item i
    cross join now n
    where not i.suppressed and i.twin_id is null
      and (i.prospect_id is null or exists (
        select from prospects p
        where p.id = i.prospect_id and p.phone = i.phone and p.status in ('INITIAL', 'RESCHEDULED') and p.deleted_at is null))
    order by i.nth
    on conflict do nothing
    returning id, user_id, lane_id, campaign_id, prospect_id, state, rank, due_at, created_at
  ),
  chosen as (
    update prospects p
    set call_id = c.id, updated_at = c.created_at
    from created c
    where p.id = any (array(select prospect_id from created where prospect_id is not null)) and p.id = c.prospect_id
  ),
  tallied as (
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    select lane_id, user_id, campaign_id, 'PENDING', count(*) from created group by lane_id, user_id, campaign_id
  ),
  -- Lanes that sleep past a call deserve a look at its time; those that sleep for a reason (blocked_on) stay asleep.
  due as materialized (
    select lane_id, min(due_at) as next_at, coalesce(min(due_at) filter (where rank < 2), 'infinity') as urgent_at
    from created
    where state = 'waiting'
    group by lane_id
  ),
  woken as (
    update lanes l
    set next_at = least(l.next_at, d.next_at), urgent_at = least(l.urgent_at, d.urgent_at)
    from due d
    where l.id = any (array(select lane_id from due)) and l.id = d.lane_id and l.blocked_on is null
      and (l.next_at > d.next_at or l.urgent_at > d.urgent_at)
    returning l.user_id, l.next_at
  ),
  turn as materialized (
    select user_id, min(next_at) as next_at from woken group by user_id
  ),
  turned as (
    update user_turns t
    set next_at = u.next_at
    from turn u
    where t.user_id = any (array(select user_id from turn)) and t.user_id = u.user_id
      and t.blocked_on is null and t.next_at > u.next_at
  )
  select i.nth, i.suppressed, i.twin_id, c.created_at, c.due_at
  from item i
  left join created c on c.id = i.id
  order by i.nth;
end
$$;
comment on function enqueue is
  'Puts calls into their lanes, a verdict each in their order: created_at and due_at of one that was created, suppressed for one '
  'on a do-not-call list, twin_id when a second call was refused, none of them when its id or external id exists. A null due_at '
  'is now. A call that is due for a busy number is parked at once.';
