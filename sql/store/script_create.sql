-- A new script; nothing when the id exists: a repeat.
-- $1 id uuid   $2 user_id uuid   $3 external_id text   $4 prompt text?   $5 agent_id text?   $6 voice text?   $7 language text?
-- $8 first_message text?   $9 tools jsonb   $10 max_duration_secs int?
-- Used by store::scripts::create.
insert into scripts (id, user_id, external_id, prompt, agent_id, voice, language, first_message, tools, max_duration_secs)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (id) do nothing
