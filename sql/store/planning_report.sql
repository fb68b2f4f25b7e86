-- Keep what a batch did for a user.
-- $1 user_id uuid   $2 report jsonb
-- Used by store::planning::keep_report.
update planning set report = $2 where user_id = $1
