-- Revoke a user's key, or an admin's.
-- $1 user_id uuid?, null = admins   $2 id uuid
-- Used by store::keys::delete.
delete from api_keys where user_id is not distinct from $1 and id = $2
