-- End waiting calls whose expires_at has passed: EXPIRED when never dialed, FAILED with their last disposition otherwise.
-- $1 limit bigint
-- Needs the admission lock, shared. Used by queue::expire.
with over as materialized (
  select id, prospect_id from calls
  where state in ('waiting', 'parked') and expires_at is not null and expires_at <= clock()
  order by expires_at
  limit $1
  for update skip locked
),
-- Their prospects are told. One that somebody holds is told another time; its user's row is looked at as it is written.
told as materialized (
  select p.id
  from prospects p
  join users u on u.id = p.user_id
  where p.id = any (array(select prospect_id from over where prospect_id is not null))
  for update of p skip locked
  for key share of u skip locked
),
gone as (
  update calls
  set
    state = case when dials = 0 then 'expired'::call_state else 'failed' end,
    ended_at = clock(), updated_at = clock()
  where state in ('waiting', 'parked') and id = any (array(
    select id from over o
    where prospect_id is null or prospect_id in (select id from told) or not exists (select from prospects p where p.id = o.prospect_id)
  ))
  returning lane_id, user_id, campaign_id, state, phone
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, 'PENDING', -count(*) from gone group by lane_id, user_id, campaign_id
  union all
  select lane_id, user_id, campaign_id, public_status(state), count(*) from gone group by lane_id, user_id, campaign_id, state
)
select distinct phone as "phone!" from gone
