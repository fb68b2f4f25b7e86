-- Take no calls for provider $1 for $3 seconds, because of $2; failures to reach it double the hold, up to $5 seconds.
-- $1 provider text   $2 reason text   $3 secs float8   $4 unreachable bool   $5 secs_max float8
-- Used by queue::hold_provider.
insert into provider_holds as h (provider, hold_until, reason, failures)
values ($1, clock() + make_interval(secs => $3), $2, case when $4::bool then 1 else 0 end)
on conflict (provider) do update
set
  hold_until = greatest(h.hold_until, clock() + make_interval(
    secs => case when $4::bool then least($5, $3 * 2 ^ least(h.failures, 20)) else $3 end)),
  reason = $2,
  failures = case when $4::bool then h.failures + 1 else h.failures end
