-- End up to $1 waiting calls of canceled campaigns, or of one of them. A campaign with nothing left is not looked at again.
-- $1 limit bigint   $2 campaign_id uuid?, null = all
-- Needs the admission lock, shared. Used by queue::sweep_canceled.
with found as materialized (
  select c.id
  from campaigns g
  join lanes l on l.campaign_id = g.id
  cross join lateral (
    (select id from calls where lane_id = l.id and state = 'waiting' limit $1)
    union all
    (select k.id from attempts a join calls k on k.phone = a.phone and k.lane_id = l.id and k.state = 'parked'
     where a.ended_at is null limit $1)
  ) c
  where g.canceled_at is not null and g.swept_at is null and ($2::uuid is null or g.id = $2)
  limit $1
),
gone as (
  update calls
  set state = 'canceled', disposition = 'CANCELED', ended_at = clock(), updated_at = clock()
  where state in ('waiting', 'parked') and id = any (array(
    -- One that somebody holds is swept another time.
    select id from calls where id = any (array(select id from found)) for update skip locked
  ))
  returning lane_id, user_id, campaign_id
),
-- Numbers that were on their way in when it was canceled are in by then.
swept as (
  update campaigns
  set swept_at = clock()
  where $2::uuid is null and canceled_at < clock() - interval '1 hour' and swept_at is null and not exists (select from found)
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, n * count(*)
  from gone
  cross join (values ('PENDING', -1), ('CANCELED', 1)) as v(what, n)
  group by lane_id, user_id, campaign_id, what, n
)
select count(*) as "n!" from gone
