-- Whether a planning batch is due; the next is $1 seconds later.
-- $1 interval_secs float8
-- Used by store::planning::take_turn.
update planner set next_at = clock() + make_interval(secs => $1) where next_at <= clock() returning true as "taken!"
