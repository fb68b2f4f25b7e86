-- What the last batch did for a user.
-- $1 user_id uuid
-- Used by store::planning::last.
select report as "report: RawJson" from planning where user_id = $1
