-- Make lanes $1 deserve a look at $2 (null: now), and their users.
-- $1 lane_ids uuid[]   $2 ats timestamptz[]?   $3 urgents bool[]: for a call of rank 0 or 1
-- Needs the admission lock. Used by queue::wake.
select wake_lanes($1, $2, $3)
