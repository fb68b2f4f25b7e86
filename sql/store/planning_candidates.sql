-- Prospects to be called next. Those with a promised time have their call already; so has whoever is planned. Who wished to be called
-- back and named no time is left alone until the next day.
-- $1 user_id uuid   $2 limit bigint
-- Used by store::planning::candidates.
select
  p.id, p.phone, p.time_zone, prospect_variables(p) as "variables!: RawJson",
  p.reached_at is not null or p.status = 'RESCHEDULED' as "known!"
from prospects p
where p.user_id = $1 and p.status in ('INITIAL', 'RESCHEDULED') and p.rescheduled_for is null and p.deleted_at is null
  and (p.status <> 'RESCHEDULED' or p.last_contacted_at is null or p.last_contacted_at < clock() - interval '20 hours')
  and (select c.id from calls c where c.prospect_id = p.id and c.state in ('waiting', 'parked', 'live')) is null
  and not exists (
    select from suppressions s
    where s.phone = identity_of(p.phone) and s.user_id in (p.user_id, '00000000-0000-7000-8000-000000000001'))
order by p.status <> 'RESCHEDULED', p.refused_at is not null, coalesce(p.last_contacted_at, '-infinity'), p.reschedules, p.created_at, p.id
limit $2
