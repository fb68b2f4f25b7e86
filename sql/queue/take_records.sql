-- Ended attempts whose record the provider is to be asked for; each is handed out again after as long as it has ended, at least
-- $2 seconds, and no more once that is $3.
-- $1 limit bigint   $2 again_in_secs float8   $3 give_up_secs float8   $4 provider text
-- Used by queue::take_records.
update attempts a
set record_at = case when clock() - a.ended_at < make_interval(secs => $3)
  then clock() + greatest(make_interval(secs => $2), clock() - a.ended_at) end
where a.id = any (array(
  select d.id from attempts d
  where d.record_at <= clock() and d.provider = $4
  order by d.record_at
  limit $1
  for update skip locked
))
returning a.id, a.call_id, a.provider_call_id, a.carrier_call_id, a.hangup_cause, a.claimed_at, a.state as "state: AttemptState", false as "hang_up!"
