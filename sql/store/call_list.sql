-- Calls, newest first, by page or below a cursor.
-- $1 user_id uuid?   $2 status text?   $3 phone text?   $4 campaign_id uuid?   $5 since timestamptz?   $6 until timestamptz?
-- $7 below uuid?, the cursor   $8 limit bigint   $9 offset bigint
-- Used by store::calls::list. Each branch of the status names the index predicate that serves it.
select
  c.id, c.user_id, c.lane_id, c.campaign_id, c.external_id, coalesce(c.given, c.phone) as "phone!", c.script_id, c.metadata as "metadata: RawJson", c.variables as "variables: RawJson",
  c.state as "state: CallState", c.dials, coalesce((select (g.max_retries + 1 + c.dials_granted)::smallint from campaigns g where g.id = c.campaign_id), c.dials_max) as "dials_max!", c.priority, c.due_at, c.expires_at, c.time_zone, c.disposition,
  c.created_at, c.updated_at, c.ended_at,
  -- As far as its lane tells: none when that never opens, or not before the window after the present one.
  (select greatest(c.due_at, l.opens_at) from lanes l
   where l.id = c.lane_id and c.due_at < l.closes_at
     and (l.closed_by is null or l.closed_by not in ('ZONE_UNKNOWN', 'WINDOW_NEVER_OPENS', 'DESTINATION_NOT_ALLOWED', 'INVALID_NUMBER'))) as next_at
from calls c
where ($1::uuid is null or c.user_id = $1)
  and ($2::text is null or $2 <> 'PENDING' or c.state in ('waiting', 'parked'))
  and ($2::text is null or $2 <> 'IN_PROGRESS' or (
    c.state = 'live' and c.id = any (array(select a.call_id from attempts a where a.ended_at is null))))
  and ($2::text is null or $2 <> 'COMPLETED' or c.state = 'completed')
  and ($2::text is null or $2 <> 'FAILED' or c.state = 'failed')
  and ($2::text is null or $2 <> 'EXPIRED' or c.state = 'expired')
  and ($2::text is null or $2 <> 'CANCELED' or c.state = 'canceled')
  -- Always true; each opens the index made for such a list (see 0013_list_indexes.sql).
  and ($4::uuid is not null or $2::text is null or $2 in ('PENDING', 'IN_PROGRESS') or c.ended_at is not null)
  and ($1::uuid is not null or $4::uuid is not null or $2::text is null or $2 in ('PENDING', 'IN_PROGRESS') or c.ended_at > '-infinity')
  and ($1::uuid is not null or $4::uuid is not null or $2::text is null or $2 <> 'PENDING' or c.ended_at is null)
  and ($3::text is null or c.phone = identity_of($3))
  and ($4::uuid is null or c.campaign_id = $4)
  and ($5::timestamptz is null or c.id >= ops.uuid_floor($5))
  and ($6::timestamptz is null or c.id < ops.uuid_floor($6))
  and ($7::uuid is null or c.id < $7)
order by c.id desc
limit $8
offset $9
