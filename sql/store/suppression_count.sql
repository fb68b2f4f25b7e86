-- How many numbers a user's do-not-call list has.
-- $1 user_id uuid
-- Used by store::suppressions::list.
select count(*) as "n!" from suppressions where user_id = $1
