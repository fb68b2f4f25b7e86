-- Whether Postgres answers, and can write.
-- Used by store::installation::ping.
select not pg_is_in_recovery() as "writable!"
