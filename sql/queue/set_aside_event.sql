-- Set aside what was said about an attempt and Postgres would not take; an open attempt is asked about, so that nothing is lost by it.
-- $1 attempt_id uuid?   $2 provider_call_id text?   $3 detail text   $4 body text
-- Used by queue::set_aside_event. A dial under way is in doubt from now: its answer may be what could not be stored.
with meant as materialized (
  select coalesce($1::uuid, (select id from attempts where provider_call_id = $2 order by claimed_at desc limit 1)) as id
),
aside as (
  insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
  select 'event', m.id, (select user_id from attempts where id = m.id), 'REFUSED', $3, $4 from meant m
)
update attempts a
set
  state = case when a.state = 'dialing' then 'unknown' else a.state end,
  sent_at = case when a.state = 'dialing' then clock() else a.sent_at end,
  check_at = clock(), revision = a.revision + 1
where a.ended_at is null and a.id = (select id from meant)
