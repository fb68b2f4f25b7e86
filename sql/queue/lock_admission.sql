-- The admission lock alone, inside a transaction that has begun: the second of the lock order.
-- Used by queue::windows.
select pg_advisory_xact_lock(7001)
