-- Delete a plan.
-- $1 id uuid
-- Used by store::plans::delete.
delete from plans where id = $1
