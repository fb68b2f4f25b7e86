-- The database failed while it was read, not the file: that take does not count, and the next is a little later.
-- $1 id uuid
-- Used by store::uploads::put_back.
update uploads set takes = greatest(takes - 1, 0), lease_until = clock() + interval '2 seconds' where id = $1 and status = 'running'
