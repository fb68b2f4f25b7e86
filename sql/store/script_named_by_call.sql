-- The script a call's script_id names: one of the call's own user, by external id or id; and what that user's scripts may name.
-- $1 call_id uuid   $2 script_id text
-- Used by store::scripts::named_by_call.
select s.prompt, s.agent_id, s.voice, s.language, s.first_message, s.tools as "tools: RawJson", s.max_duration_secs,
  u.allowed_agents, u.allowed_tools
from calls c
join scripts s on s.user_id = c.user_id
join users u on u.id = c.user_id
where c.id = $1 and (s.external_id = $2 or s.id::text = lower($2))
order by s.external_id = $2 desc
limit 1
