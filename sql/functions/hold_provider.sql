-- The provider said it is full: no claim for $2 seconds, and fewer live calls until the limit has risen again: as many as it has now, as
-- many as it had at once within the last minute, or half of what was allowed for each time it said so, whichever is most. A stray
-- refusal costs half; a real limit is found by a few; a storm of refusals (of a rate, say) does not go below what it did take.
-- `refused`: the attempts it refused, settled already. Calls that it has not answered yet do not count: they may be refused as well.
-- Called by turn.
create or replace function hold_provider(refused uuid[], secs double precision, recover_secs double precision, global_limit integer) returns void
language plpgsql
as $$
#variable_conflict use_column
begin
with moved as materialized (
  select provider, accepted_at, ended_at from attempts
  where id >= ops.uuid_floor(clock() - interval '2 minutes') and accepted_at > clock() - interval '1 minute'
)
insert into provider_states as p (provider, hold_until, reason, ceiling, ceiling_at, ceiling_until)
select
  r.provider, clock() + make_interval(secs => $2), 'PROVIDER_CAPACITY',
  greatest(
    (select count(*) from attempts where ended_at is null and state in ('accepted', 'unknown')),
    -- The most at once of those accepted within the minute.
    (select max(n) from (
      select sum(d) over (order by at, d) as n
      from (
        select accepted_at as at, 1 as d from moved where provider = r.provider
        union all
        select ended_at, -1 from moved where provider = r.provider and ended_at is not null
      ) steps
    ) at_once),
    ceil(coalesce((select ceiling_of(s, $4::int) from provider_states s where s.provider = r.provider), $4::int) / power(2, least(r.n, 30))),
    1)::int,
  clock(), clock() + make_interval(secs => $3)
from (select provider, count(*)::int as n from attempts where id = any ($1::uuid[]) group by provider) r
on conflict (provider) do update
set
  reason = case when p.hold_until > excluded.hold_until then p.reason else excluded.reason end,
  hold_until = greatest(p.hold_until, excluded.hold_until),
  ceiling = excluded.ceiling, ceiling_at = excluded.ceiling_at, ceiling_until = excluded.ceiling_until;
end
$$;
