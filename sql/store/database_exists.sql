-- Whether the server has a database of this name.
-- $1 name text
-- Used by db::embedded.
select exists (select from pg_database where datname = $1) as "exists!"
