-- Change a user; null keeps a field, and those that may be emptied have a flag. A trigger closes the user's lanes where it may call less or
-- more by it, and takes the admission lock.
-- $1 id uuid   $2 name text?   $3 email_given bool   $4 email text?   $5 countries_given bool   $6 allowed_countries text[]?
-- $7 allowed_destinations text[]?
-- Used by store::users::update.
update users
set
  name = coalesce($2, name), email = case when $3 then $4 else email end,
  allowed_countries = case when $5 then $6 else allowed_countries end,
  allowed_destinations = coalesce($7, allowed_destinations), updated_at = clock()
where id = $1
