-- Roles with just the rights that each of those who come to the database needs. Run it once as the owner of the schema, who may make roles,
-- and after each upgrade: outdial psql -f sql/roles.sql
--
--   outdial_service   runs `outdial serve` on a schema that is up to date: reads and writes rows, changes no schema.
--   outdial_platform  writes by the platform's views ("User", "Prospect", …) and calls ops.enqueue; sees nothing else: no keys, no secrets
--                     of endpoints, no transcripts.
--   outdial_inspect   reads the schema ops, and nothing else.
--
-- Whoever runs `outdial migrate` owns the schema: it needs no role of its own, and no rights of a superuser. None of these can log in:
-- grant outdial_inspect to somebody;
do $$
declare
  role text;
begin
  foreach role in array '{outdial_service,outdial_platform,outdial_inspect}'::text[] loop
    begin
      execute format('create role %I nologin', role);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;
end
$$;

grant usage on schema public, ops to outdial_service;
grant select, insert, update, delete on all tables in schema public to outdial_service;
grant select on all tables in schema ops to outdial_service;
revoke insert, update, delete on _sqlx_migrations from outdial_service;
grant usage on all sequences in schema public to outdial_service;
grant execute on all functions in schema public, ops to outdial_service;

grant usage on schema public, ops to outdial_platform;
grant select, insert, update, delete on "User", "Prospect", "Setting", "AdvancedSetting", "ScriptSetting", "AgentSetting", "Plan", "Subscription"
  to outdial_platform;
grant execute on function ops.enqueue(text, text, jsonb, timestamptz, text, timestamptz, text, text, integer) to outdial_platform;

grant usage on schema ops to outdial_inspect;
grant select on all tables in schema ops to outdial_inspect;
grant execute on function ops.explain(uuid), ops.uuid_floor(timestamptz) to outdial_inspect;
