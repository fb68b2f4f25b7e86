-- The hashes of all keys, to tell those that are none without asking for each.
-- Used by store::keys::hashes.
select hash from api_keys
