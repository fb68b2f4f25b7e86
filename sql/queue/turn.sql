-- One turn of a worker: settle, act on what that frees, claim; one trip, which takes the admission lock (alone) itself and commits.
-- The 45 parameters are those of the function turn (sql/functions/turn.sql), in its order. A row for each settled attempt, each claimed call,
-- and the summary of the claim.
-- Used by queue::turn.
select
  ends, since_claim_secs, claims_after_secs, at, room, live, held_until, probing, nullif(next_at, 'infinity') as next_at, lanes, users, obstructed,
  attempt_id, call_id, attempt_number, dials, dials_max, priority, rank, retry_delay_secs, phone, script_id, metadata as "metadata: RawJson",
  variables as "variables: RawJson", due_at, reserved_minutes, prospect_id, agent as "agent: RawJson", retry_rules as "retry_rules: RawJson"
from turn(
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30,
  $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45)
