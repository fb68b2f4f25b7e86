-- How many prospects a user has.
-- $1 user_id uuid
-- Used by store::prospects::list.
select count(*) as "n!" from prospects where user_id = $1 and deleted_at is null
