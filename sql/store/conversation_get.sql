-- One conversation, with its transcript.
-- $1 attempt_id uuid   $2 user_id uuid?, null = any
-- Used by store::prospects::conversation.
select
  a.id as conversation_id, a.call_id, a.user_id, c.prospect_id, a.number, upper(a.state::text) as "state!", a.dialed,
  a.provider_call_id as external_call_id, a.carrier_call_id, a.claimed_at, a.started_at, a.ended_at, a.disposition, a.duration_secs as duration,
  a.charged_minutes as minutes, a.hangup_cause, a.told as "outcome: RawJson", a.transcript, a.summary
from attempts a
join calls c on c.id = a.call_id
where a.id = $1 and ($2::uuid is null or a.user_id = $2)
