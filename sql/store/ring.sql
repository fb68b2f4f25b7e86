-- Tell every process that listens that there may be work.
-- $1 channel text
-- Used by db::doorbell.
select pg_notify($1, '')::text as rung
