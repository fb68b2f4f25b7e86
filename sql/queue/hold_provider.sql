-- The provider said it is full: no claim for $2 seconds, and fewer live calls until the limit has risen again: as many as it has now, or
-- half of what was allowed for each time it said so, whichever is more. A stray refusal costs half; a real limit is found by a few.
-- $1 attempt_ids uuid[]: the refused ones, settled already   $2 secs float8   $3 recover_secs float8   $4 global_limit int
-- Used by queue::hold_provider. Calls that it has not answered yet do not count: they may be refused as well.
insert into provider_states as p (provider, hold_until, reason, ceiling, ceiling_at, ceiling_until)
select
  r.provider, clock() + make_interval(secs => $2), 'PROVIDER_CAPACITY',
  greatest(
    (select count(*) from attempts where ended_at is null and state in ('accepted', 'unknown')),
    ceil(coalesce((select ceiling_of(s, $4::int) from provider_states s where s.provider = r.provider), $4::int) / power(2, least(r.n, 30))),
    1)::int,
  clock(), clock() + make_interval(secs => $3)
from (select provider, count(*)::int as n from attempts where id = any ($1::uuid[]) group by provider) r
on conflict (provider) do update
set
  reason = case when p.hold_until > excluded.hold_until then p.reason else excluded.reason end,
  hold_until = greatest(p.hold_until, excluded.hold_until),
  ceiling = excluded.ceiling, ceiling_at = excluded.ceiling_at, ceiling_until = excluded.ceiling_until
