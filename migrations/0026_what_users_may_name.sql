-- What of the installation's account at the provider a user may name, and how many calls it may have: an admin decides.
alter table users
  add column allowed_agents text[] not null default '{}',
  add column allowed_tools text[] not null default '{hangUp,leaveVoicemail,playDtmfSounds}',
  add column max_concurrent_calls_allowed integer,
  add constraint users_max_concurrent_calls_allowed_range check (max_concurrent_calls_allowed between 1 and 100000),
  add constraint users_max_concurrent_calls_are_allowed check (max_concurrent_calls_allowed is null
    or (max_concurrent_calls is not null and max_concurrent_calls <= max_concurrent_calls_allowed));
comment on column users.allowed_agents is 'Ids of agents kept at the provider that this user''s scripts may name, * for any. An admin decides.';
comment on column users.allowed_tools is 'Names and ids of tools kept at the provider that this user''s scripts may name, * for any. An admin decides.';
comment on column users.max_concurrent_calls_allowed is 'The most live calls this user may give itself (max_concurrent_calls); null: only the global limit. An admin decides.';

update users set allowed_agents = '{*}', allowed_tools = '{*}' where id = '00000000-0000-7000-8000-000000000001';
-- What their scripts name already they may go on to name.
update users u
set
  allowed_agents = array(select distinct agent_id from scripts where user_id = u.id and agent_id is not null),
  allowed_tools = u.allowed_tools || array(
    select distinct coalesce(t ->> 'toolName', t ->> 'toolId')
    from scripts s, jsonb_array_elements(case when jsonb_typeof(s.tools) = 'array' then s.tools else '[]' end) t
    where s.user_id = u.id and coalesce(t ->> 'toolName', t ->> 'toolId') <> all (u.allowed_tools))
where u.id <> '00000000-0000-7000-8000-000000000001' and exists (select from scripts where user_id = u.id);
