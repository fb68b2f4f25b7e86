-- Attempts the provider must be asked about, or asked to hang up; each is handed out once per $2 seconds.
-- $1 limit bigint   $2 again_in_secs float8   $3 provider text: another would say truly, and wrongly, that it has no such call
-- Used by queue::inquire. Open attempts are few (the global limit), so they are scanned.
update attempts a
set check_at = clock() + make_interval(secs => $2), hang_up_at = null
where a.id = any (array(
  select d.id from attempts d
  where d.ended_at is null and d.provider = $3
    and ((d.state in ('unknown', 'accepted') and d.check_at <= clock()) or (d.state = 'accepted' and d.hang_up_at <= clock()))
  order by d.check_at
  limit $1
  for update skip locked
))
returning a.id, a.call_id, a.provider_call_id, a.carrier_call_id, a.hangup_cause, a.claimed_at, a.state as "state: AttemptState",
  exists (select from calls c where c.id = a.call_id and c.cancel_requested_at is not null) as "hang_up!"
