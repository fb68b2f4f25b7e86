-- Delete a script that neither a campaign nor a waiting call names.
-- $1 id uuid
-- Used by store::scripts::delete. No row: one does. Reads the user's waiting calls, which may take a second where they are a million.
delete from scripts s
where s.id = $1 and not exists (
  select from campaigns g
  where g.user_id = s.user_id and g.script_id in (s.external_id, s.id::text) and g.deleted_at is null and g.canceled_at is null
) and not exists (
  select from calls c
  where c.user_id = s.user_id and c.script_id in (s.external_id, s.id::text) and c.state in ('waiting', 'parked', 'live')
)
