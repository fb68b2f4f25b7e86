-- Why one call waits.
-- $1 call_id uuid
-- Used by store::calls::waiting.
select reason as "reason!", clears_at, detail from ops.waiting where call_id = $1
