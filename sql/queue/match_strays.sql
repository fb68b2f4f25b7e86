-- Stray events whose call is known by now; they stay until they are applied (delete_strays).
-- $1 limit bigint
-- Used by queue::match_strays.
select s.id, a.id as "attempt_id!", s.key, s.word as "word: RawJson"
from stray_events s
cross join lateral (
  select id from attempts where id = s.attempt_id
  union all
  select id from attempts where provider_call_id = s.provider_call_id
  limit 1
) a
order by s.received_at
limit $1
