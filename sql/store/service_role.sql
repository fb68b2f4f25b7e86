-- The role of the service on a private Postgres: it owns its database and is no superuser. It sees what other sessions wait for.
-- Run as a superuser. Used by db::embedded.
do $$
begin
  if not exists (select from pg_roles where rolname = 'outdial') then
    create role outdial login;
  end if;
  grant pg_monitor to outdial;
end
$$
