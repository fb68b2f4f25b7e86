-- Change a user; null keeps a field, and the one that may be emptied has a flag.
-- $1 id uuid   $2 name text?   $3 email_given bool   $4 email text?
-- Used by store::users::update.
update users
set name = coalesce($2, name), email = case when $3 then $4 else email end, updated_at = clock()
where id = $1
