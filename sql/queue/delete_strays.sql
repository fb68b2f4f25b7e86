-- Forget stray events that were applied.
-- $1 ids uuid[]
-- Used by queue::delete_strays.
delete from stray_events where id = any ($1)
