-- The installation's row, made by the first process; notes what is in force, for views.
-- $1 token_key bytea, used if there is none yet   $2 max_concurrent_calls int   $3 provider text
-- Used by store::installation::settle_in.
insert into installation (token_key, max_concurrent_calls, provider)
values ($1, $2, $3)
on conflict (only_row) do update set max_concurrent_calls = $2, provider = $3
returning token_key
