-- Write a script anew; what is dialed from now on follows it.
-- $1 id uuid   $2 prompt text?   $3 agent_id text?   $4 voice text?   $5 language text?   $6 first_message text?   $7 tools jsonb
-- $8 max_duration_secs int?
-- Used by store::scripts::update.
update scripts
set prompt = $2, agent_id = $3, voice = $4, language = $5, first_message = $6, tools = $7, max_duration_secs = $8, updated_at = clock()
where id = $1
