-- What a user may name, and the most live calls it may give itself.
-- $1 id uuid
-- Used by store::users::allowed.
select u.allowed_agents as "agents!", u.allowed_tools as "tools!", least(u.max_concurrent_calls_allowed, i.max_concurrent_calls) as live_max
from users u
left join installation i on true
where u.id = $1
