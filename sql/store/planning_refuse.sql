-- Have prospects that could not be planned come after the others.
-- $1 ids uuid[]
-- Used by store::planning::refuse.
update prospects set refused_at = clock() where id = any ($1)
