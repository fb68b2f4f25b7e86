-- Give a FAILED or EXPIRED call one more round of $3 dials, due now.
-- $1 call_id uuid   $2 user_id uuid?, null = any   $3 dials_more smallint
-- Needs the admission lock, shared. Used by queue::retry.
with target as materialized (
  select id, state, phone, exists (select from campaigns g where g.id = campaign_id and g.canceled_at is not null) as over
  from calls
  where id = $1 and ($2::uuid is null or user_id = $2)
  for update
),
suppressed as materialized (
  select from target t
  join calls c on c.id = t.id
  join suppressions s on s.phone = c.phone and s.user_id in (c.user_id, '00000000-0000-7000-8000-000000000001')
  limit 1
),
again as (
  update calls c
  set
    state = 'waiting', rank = case when c.priority = 3 then 2 else c.priority end, due_at = clock(),
    dials_max = c.dials + $3,
    dials_granted = coalesce(c.dials + $3 - 1 - (select max_retries from campaigns where id = c.campaign_id), 0),
    ended_at = null, disposition = null, cancel_requested_at = null, updated_at = clock(),
    expires_at = case when c.expires_at <= clock() then null else c.expires_at end
  from target t
  where c.id = $1 and c.id = t.id and t.state in ('failed', 'expired') and not t.over and not exists (select from suppressed)
  returning c.id, c.user_id, c.campaign_id, c.lane_id, c.rank, c.due_at
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, 'PENDING', 1 from again
  union all
  select a.lane_id, a.user_id, a.campaign_id, public_status(t.state), -1 from again a, target t
)
select
  t.state as "was: CallState", exists (select from suppressed) as "suppressed!", t.over as "over!",
  a.lane_id as "lane_id?", a.due_at as "due_at?", a.rank as "rank?"
from target t
left join again a on true
