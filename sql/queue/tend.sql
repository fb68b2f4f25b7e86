-- Tidy lanes a claim has looked at; one trip, which takes the admission lock (alone) itself and commits.
-- $1 lane_ids uuid[]   $2 user_ids uuid[]   $3 dial_guard_secs float8   $4 each bigint: calls of a rank to look at
-- $5 dials_per_day int, 0 = any   $6 gap_secs float8, 0 = none
-- Used by queue::tend.
select at as "at!", moved as "moved!", next_at from tend($1, $2, $3, $4, $5, $6)
