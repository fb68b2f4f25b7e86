-- A user's keys, or the admins', newest first.
-- $1 user_id uuid?, null = admins
-- Used by store::keys::list.
select id, name, created_at, scopes, last_used_at, host(last_used_from) as last_used_from, expires_at
from api_keys
where user_id is not distinct from $1
order by id desc
limit 1000
