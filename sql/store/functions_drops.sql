-- What drops the functions $1 as they are.
-- $1 names text[]
-- Used by db::migrate.
select 'drop function ' || oid::regprocedure as "drop!" from pg_proc
where proname = any ($1) and pronamespace = (select pronamespace from pg_proc where oid = 'wall_clock'::regproc)
