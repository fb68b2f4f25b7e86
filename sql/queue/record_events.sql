-- Keep what was said about known attempts; a second delivery of the same event adds nothing.
-- $1 attempt_ids uuid[]   $2 keys text[]   $3 types text[]   $4 sources text[]   $5 bodies jsonb[]
-- Used by queue::record_events.
insert into events (attempt_id, key, type, source, body)
select attempt_id, key, type, source, body
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[]) as e(attempt_id, key, type, source, body)
on conflict do nothing
