-- How many schedules there are.
-- $1 user_id uuid?
-- Used by store::schedules::list.
select count(*) as "n!" from schedules where ($1::uuid is null or user_id = $1)
