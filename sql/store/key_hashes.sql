-- The hashes of all keys that are still good, and whose they are, to tell those that are none without asking for each.
-- Used by store::keys::hashes.
select hash, user_id from api_keys where expires_at is null or expires_at > clock()
