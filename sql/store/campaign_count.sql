-- How many campaigns there are.
-- $1 user_id uuid?
-- Used by store::campaigns::list.
select count(*) as "n!" from campaigns where ($1::uuid is null or user_id = $1) and deleted_at is null
