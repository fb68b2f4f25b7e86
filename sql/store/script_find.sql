-- Scripts with this id or external id: more than one when users share an external id.
-- $1 id uuid?   $2 external_id text?   $3 user_id uuid?, null = of anybody
-- Used by store::scripts::find.
select id, user_id, external_id, prompt, agent_id, voice, language, first_message, tools as "tools: RawJson", max_duration_secs, created_at, updated_at
from scripts
where id in (select id from scripts where id = $1 union all select id from scripts where external_id = $2)
  and ($3::uuid is null or user_id = $3)
limit 2
