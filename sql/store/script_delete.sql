-- Delete a script no campaign calls by.
-- $1 id uuid
-- Used by store::scripts::delete. No row: a campaign does.
delete from scripts s
where s.id = $1 and not exists (
  select from campaigns g
  where g.user_id = s.user_id and g.script_id in (s.external_id, s.id::text) and g.deleted_at is null and g.canceled_at is null
)
