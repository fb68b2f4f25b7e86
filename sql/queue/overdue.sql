-- Open attempts older than the maximum call time.
-- $1 max_call_secs float8   $2 limit bigint
-- Used by queue::overdue.
select id from attempts
where ended_at is null and state in ('unknown', 'accepted') and claimed_at <= clock() - make_interval(secs => $1)
limit $2
