-- One call.
-- $1 call_id uuid   $2 user_id uuid?, null = any
-- Used by store::calls::get.
select
  c.id, c.user_id, c.lane_id, c.campaign_id, c.external_id, coalesce(c.given, c.phone) as "phone!", c.script_id, c.metadata as "metadata: RawJson", c.variables as "variables: RawJson",
  c.state as "state: CallState", c.dials, coalesce((select (g.max_retries + 1 + c.dials_granted)::smallint from campaigns g where g.id = c.campaign_id), c.dials_max) as "dials_max!", c.priority, c.due_at, c.expires_at, c.time_zone, c.disposition,
  c.created_at, c.updated_at, c.ended_at,
  -- As far as its lane tells: none when that never opens, or not before the window after the present one.
  (select greatest(c.due_at, l.opens_at) from lanes l
   where l.id = c.lane_id and c.due_at < l.closes_at
     and (l.closed_by is null or l.closed_by not in ('ZONE_UNKNOWN', 'WINDOW_NEVER_OPENS', 'DESTINATION_NOT_ALLOWED', 'INVALID_NUMBER'))) as next_at
from calls c
where c.id = $1 and ($2::uuid is null or c.user_id = $2)
