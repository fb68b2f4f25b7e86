-- Scripts, newest first.
-- $1 user_id uuid?   $2 below uuid?   $3 limit bigint   $4 offset bigint
-- Used by store::scripts::list.
select id, user_id, external_id, prompt, agent_id, voice, language, first_message, tools as "tools: RawJson", max_duration_secs, created_at, updated_at
from scripts
where ($1::uuid is null or user_id = $1) and ($2::uuid is null or id < $2)
order by id desc
limit $3 offset $4
