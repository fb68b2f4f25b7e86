-- Revoke a user's key.
-- $1 user_id uuid   $2 id uuid
-- Used by store::keys::delete.
delete from api_keys where user_id = $1 and id = $2
