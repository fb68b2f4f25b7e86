-- One process installs functions at a time.
-- Used by db::migrate.
lock table installed_functions in exclusive mode
