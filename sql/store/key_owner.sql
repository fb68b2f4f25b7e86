-- Whose key has this hash, if it is still good, and what it may do. Its last use is written at most once a minute.
-- $1 hash bytea   $2 from text?
-- Used by store::keys::owner.
with used as (
  update api_keys set last_used_at = clock(), last_used_from = $2::text::inet
  where hash = $1 and (expires_at is null or expires_at > clock())
    and (last_used_at is null or last_used_at < clock() - interval '1 minute')
)
select user_id, scopes, expires_at from api_keys where hash = $1 and (expires_at is null or expires_at > clock())
