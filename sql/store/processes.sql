-- What the running processes last did, together; and which roles there are.
-- Used by store::installation::processes.
select
  count(*) filter (where role in ('all', 'api')) as "api!", count(*) filter (where role in ('all', 'worker')) as "worker!",
  count(*) filter (where role in ('all', 'scheduler')) as "scheduler!",
  max(turn_at) as turn, max(settle_at) as settle, max(planning_at) as planning, max(delivery_at) as delivery,
  max(housekeeping_at) as housekeeping, max(word_at) as provider_word
from ops.processes
