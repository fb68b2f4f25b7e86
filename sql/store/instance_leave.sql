-- Process $1 ends; what it was still dialing is in doubt from now.
-- $1 instance uuid
-- Used by store::instances::leave.
update instances set lease_until = least(lease_until, clock()) where id = $1
