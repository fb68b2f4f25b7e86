-- Slots in use, those of them in doubt, and how the provider stands.
-- Used by queue::slots_used.
select
  (select count(*) from attempts where ended_at is null) as "live!",
  (select count(*) from attempts where ended_at is null and state = 'unknown') as "unknown!",
  coalesce((select breaker <> 'closed' from ops.limits), false) as "breaker_open!",
  (select provider_ceiling from ops.limits) as provider_ceiling
