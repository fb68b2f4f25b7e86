-- Change a prospect; null keeps a field, and those that may be emptied have a flag. A waiting call follows a new number or name.
-- $1 id uuid   $2 name_given bool   $3 name text?   $4 phone text?   $5 zone_given bool   $6 time_zone text?   $7 status text?
-- $8 rescheduled_given bool   $9 rescheduled_for timestamptz?   $10 variables jsonb?   $11 deleted bool
-- Needs the admission lock, shared. Used by queue::update_prospect.
with was as materialized (
  select id, phone from prospects where id = $1 and deleted_at is null for update
),
changed as (
  update prospects p
  set
    name = case when $2 then $3 else p.name end, phone = coalesce($4, p.phone),
    time_zone = case when $5 then $6 else p.time_zone end, status = coalesce($7, p.status),
    rescheduled_for = case when $8 then $9 when $7 is not null and $7 <> 'RESCHEDULED' then null else p.rescheduled_for end,
    variables = coalesce($10, p.variables), deleted_at = case when $11 then clock() end, updated_at = clock()
  from was w
  where p.id = w.id
  returning p.id, p.user_id, w.phone as phone_was, p.phone, p.time_zone, prospect_variables(p) as variables
),
-- Where the new number rings is found out anew.
moved as (
  update calls c
  set phone = g.phone, time_zone = g.time_zone, variables = g.variables, state = 'waiting', updated_at = clock(),
    lane_id = unsorted_lane(g.user_id)
  from changed g
  where c.prospect_id = g.id and c.state in ('waiting', 'parked')
    and (c.phone, c.time_zone, c.variables) is distinct from (g.phone, g.time_zone, g.variables) and not $11
    and ($7 is null or $7 in ('INITIAL', 'RESCHEDULED'))
  returning c.id, c.lane_id, c.user_id
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select v.lane_id, m.user_id, null, 'PENDING', v.n
  from moved m
  join calls old on old.id = m.id
  cross join lateral (values (old.lane_id, -1), (m.lane_id, 1)) as v(lane_id, n)
  where old.lane_id <> m.lane_id
)
select phone_was as phone from changed
