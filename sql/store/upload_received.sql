-- The body is whole: it may be read.
-- $1 id uuid   $2 bytes bigint
-- Used by store::uploads::received.
update uploads set status = 'running', bytes = $2 where id = $1 and status = 'receiving'
