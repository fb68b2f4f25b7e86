-- Slots in use, those of them in doubt, and how the provider stands.
-- Used by queue::slots_used.
select
  a.live as "live!", a.unknown as "unknown!", coalesce(l.breaker <> 'closed', false) as "breaker_open!", l.provider_ceiling
from (select count(*) as live, count(*) filter (where state = 'unknown') as unknown from attempts where ended_at is null) a
left join ops.limits l on true
