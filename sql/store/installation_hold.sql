-- Hold dialing: commits were lost, so that calls were dialed which this database does not know of.
-- Used by store::installation::hold. Whoever finds it held leaves it so.
update installation set held_since = clock(), held_for = 'LOST_COMMITS' where held_since is null
