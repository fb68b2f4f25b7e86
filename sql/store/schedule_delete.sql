-- Delete a schedule no campaign follows.
-- $1 id uuid
-- Used by store::schedules::delete.
delete from schedules where id = $1
