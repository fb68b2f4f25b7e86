-- Whose key has this hash, if it is still good. last_used_at is written at most once a minute.
-- $1 hash bytea
-- Used by store::keys::owner.
with used as (
  update api_keys set last_used_at = clock()
  where hash = $1 and (expires_at is null or expires_at > clock())
    and (last_used_at is null or last_used_at < clock() - interval '1 minute')
)
select user_id from api_keys where hash = $1 and (expires_at is null or expires_at > clock())
