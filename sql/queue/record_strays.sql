-- Keep events about calls not known yet.
-- $1 ids uuid[]   $2 attempt_ids uuid[]?   $3 provider_call_ids text[]?   $4 keys text[]   $5 words jsonb[]
-- Used by queue::record_strays.
insert into stray_events (id, attempt_id, provider_call_id, key, word)
select id, attempt_id, provider_call_id, key, word
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[]) as s(id, attempt_id, provider_call_id, key, word)
on conflict do nothing
