-- The provider said it is full: no claim for $2 seconds, and no more live calls than it has now until the limit has risen again.
-- $1 provider text   $2 secs float8   $3 recover_secs float8
-- Used by queue::hold_provider. The one it refused is open still, and so may others be that it has not answered: they do not count.
insert into provider_states as p (provider, hold_until, reason, ceiling, ceiling_at, ceiling_until)
select
  $1, clock() + make_interval(secs => $2), 'PROVIDER_CAPACITY',
  greatest(1, (select count(*) from attempts where ended_at is null and state in ('accepted', 'unknown')))::int,
  clock(), clock() + make_interval(secs => $3)
on conflict (provider) do update
set
  reason = case when p.hold_until > excluded.hold_until then p.reason else excluded.reason end,
  hold_until = greatest(p.hold_until, excluded.hold_until),
  ceiling = excluded.ceiling, ceiling_at = excluded.ceiling_at, ceiling_until = excluded.ceiling_until
