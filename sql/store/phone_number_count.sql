-- How many phone numbers there are.
-- $1 user_id uuid?
-- Used by store::phone_numbers::list.
select count(*) as "n!" from phone_numbers where ($1::uuid is null or user_id = $1)
