-- Writes down which edition of sql/functions was installed.
-- $1 digest text
-- Used by db::migrate.
insert into installed_functions (digest) values ($1) on conflict (is_only) do update set digest = excluded.digest
