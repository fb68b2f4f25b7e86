-- How many scripts there are.
-- $1 user_id uuid?
-- Used by store::scripts::list.
select count(*) as "n!" from scripts where ($1::uuid is null or user_id = $1)
