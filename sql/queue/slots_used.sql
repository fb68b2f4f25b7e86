-- Slots in use, and those of them in doubt.
-- Used by queue::slots_used.
select
  (select count(*) from attempts where ended_at is null) as "live!",
  (select count(*) from attempts where ended_at is null and state = 'unknown') as "unknown!"
