-- How many users there are.
-- $1 user_id uuid?: only this one
-- Used by store::users::list.
select count(*) as "n!" from users where ($1::uuid is null or id = $1)
