-- Close lanes whose rules have changed until their windows are written anew, which is due at once.
-- $1 ids uuid[]
-- Needs the lock of windows, and the admission lock, exclusive. Used by queue::windows.
update lanes
set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
where id = any ($1)
