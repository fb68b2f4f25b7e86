-- Whether there is any admin key.
-- Used by store::keys::any_admin.
select exists (select from api_keys where user_id is null) as "any!"
