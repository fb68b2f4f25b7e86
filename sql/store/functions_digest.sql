-- Which edition of sql/functions this database has; no row: none.
-- Used by db::migrate.
select digest from installed_functions
