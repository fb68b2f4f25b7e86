-- The provider said it is full: no claim for $2 seconds, and fewer live calls until the limit has risen again: as many as it has now, or
-- half of what was allowed, whichever is more. A stray refusal costs half; a real limit is found by a few of them.
-- $1 provider text   $2 secs float8   $3 recover_secs float8   $4 global_limit int
-- Used by queue::hold_provider. The one it refused is open still, and so may others be that it has not answered: they do not count.
insert into provider_states as p (provider, hold_until, reason, ceiling, ceiling_at, ceiling_until)
select
  $1, clock() + make_interval(secs => $2), 'PROVIDER_CAPACITY',
  greatest(
    (select count(*) from attempts where ended_at is null and state in ('accepted', 'unknown')),
    (coalesce((select ceiling_of(s, $4::int) from provider_states s where s.provider = $1), $4::int) + 1) / 2,
    1)::int,
  clock(), clock() + make_interval(secs => $3)
on conflict (provider) do update
set
  reason = case when p.hold_until > excluded.hold_until then p.reason else excluded.reason end,
  hold_until = greatest(p.hold_until, excluded.hold_until),
  ceiling = excluded.ceiling, ceiling_at = excluded.ceiling_at, ceiling_until = excluded.ceiling_until
