-- A new user; nothing when the id exists: a repeat.
-- $1 id uuid   $2 name text   $3 email text?   $4 external_id text?
-- Used by store::users::create.
insert into users (id, name, email, external_id) values ($1, $2, $3, $4)
on conflict (id) do nothing
