-- A user's keys, newest first.
-- $1 user_id uuid
-- Used by store::keys::list.
select id, name, created_at, last_used_at from api_keys where user_id = $1 order by id desc
