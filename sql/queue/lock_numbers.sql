-- Order what touches the numbers $1 outside the claim, until the transaction ends.
-- $1 phones text[], sorted, so that two callers never wait for each other
-- Used by queue::enqueue.
select pg_advisory_xact_lock(7002, hashtext(phone)) from unnest($1::text[]) as p(phone)
