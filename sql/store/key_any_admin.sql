-- Whether there is any admin key that is still good.
-- Used by store::keys::any_admin.
select exists (select from api_keys where user_id is null and (expires_at is null or expires_at > clock())) as "any!"
