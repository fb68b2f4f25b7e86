-- Let others go first.
-- $1 id uuid
-- Used by store::uploads::give_back.
update uploads set lease_until = clock() where id = $1 and status = 'running'
