-- For attempts $1: the time, and how often a callee of the same call has put it off before.
-- $1 attempt_ids uuid[]
-- Used by queue::promises.
select
  a.id, clock() as "now!",
  (select count(*) from attempts b where b.call_id = a.call_id and b.number < a.number and b.disposition = 'CALLBACK_REQUESTED')::smallint as "before!"
from attempts a
where a.id = any ($1)
