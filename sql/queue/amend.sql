-- Change a call that waits; null keeps a field. It waits anew, so that a changed number or time is looked at afresh.
-- $1 call_id uuid       $2 user_id uuid?, null = any   $3 phone text?        $4 script_id text?     $5 metadata jsonb?
-- $6 priority smallint? $7 due_at timestamptz?         $8 expires_at timestamptz?
-- $9 lane_id uuid?: where its number belongs
-- Needs the admission lock, shared. Used by queue::amend.
with target as materialized (
  select id, state, phone, user_id, lane_id, campaign_id from calls
  where id = $1 and ($2::uuid is null or user_id = $2)
  for update
),
suppressed as materialized (
  select from target t
  join suppressions s on s.phone = identity_of($3) and s.user_id in (t.user_id, '00000000-0000-7000-8000-000000000001')
  limit 1
),
amended as (
  update calls c
  set
    state = 'waiting',
    phone = coalesce(identity_of($3), c.phone),
    given = case when $3::text is null then c.given else nullif($3, identity_of($3)) end,
    lane_id = coalesce($9, c.lane_id),
    script_id = coalesce($4, c.script_id),
    metadata = coalesce($5, c.metadata),
    priority = coalesce($6, c.priority),
    rank = case when $6::smallint is null then c.rank when c.rank = 2 and $6 = 3 then 2 else $6 end,
    due_at = coalesce($7, c.due_at),
    expires_at = coalesce($8, c.expires_at),
    updated_at = clock()
  from target t
  where c.id = $1 and c.id = t.id and t.state in ('waiting', 'parked') and not exists (select from suppressed)
  returning c.id, c.lane_id, c.due_at, c.rank
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select v.lane_id, t.user_id, t.campaign_id, 'PENDING', v.n
  from target t
  join amended a on a.id = t.id and a.lane_id <> t.lane_id
  cross join lateral (values (t.lane_id, -1), (a.lane_id, 1)) as v(lane_id, n)
)
select
  t.campaign_id is not null as "in_campaign!", t.state as "was: CallState", t.phone as "phone_was", exists (select from suppressed) as "suppressed!",
  a.lane_id as "lane_id?", a.due_at as "due_at?", a.rank as "rank?"
from target t
left join amended a on true
