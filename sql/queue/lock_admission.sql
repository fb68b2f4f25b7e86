-- The admission lock alone, inside a transaction that has begun: the second of the lock order.
-- Used by queue::windows.
select admission_lock(false)
