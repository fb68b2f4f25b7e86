-- The installation's row, made by the first process; notes what is in force, for views.
-- $1 token_key bytea, used if there is none yet   $2 max_concurrent_calls int   $3 provider text   $4 dials_per_second float8
-- $5 reserve_minutes int
-- Used by store::installation::settle_in.
insert into installation (token_key, max_concurrent_calls, provider, dials_per_second, reserve_minutes)
values ($1, $2, $3, $4, $5)
on conflict (only_row) do update
set max_concurrent_calls = $2, provider = $3, dials_per_second = $4, reserve_minutes = $5
returning token_key
