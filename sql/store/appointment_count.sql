-- How many appointments there are.
-- $1 user_id uuid?
-- Used by store::prospects::appointments.
select count(*) as "n!" from appointments where $1::uuid is null or user_id = $1
