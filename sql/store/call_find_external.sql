-- The calls with this external id: one for a user, perhaps several over all users.
-- $1 external_id text   $2 user_id uuid?, null = any
-- Used by store::calls::find_external.
select id from calls
where external_id = $1 and ($2::uuid is null or user_id = $2)
limit 2
