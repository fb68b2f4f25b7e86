-- Whether this connection is outside any transaction: inside one, now() stands still (and an aborted one fails here).
-- Used by db::is_clean.
select now() = statement_timestamp()
