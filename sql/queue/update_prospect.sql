-- Change a prospect; null keeps a field, and those that may be emptied have a flag. Its triggers have its waiting call follow. What a
-- person says of its status outweighs what its calls had said.
-- $1 id uuid   $2 name_given bool   $3 name text?   $4 phone text?   $5 zone_given bool   $6 time_zone text?   $7 status text?
-- $8 rescheduled_given bool   $9 rescheduled_for timestamptz?   $10 variables jsonb?   $11 deleted bool
-- Needs the admission lock, exclusive. Used by queue::update_prospect.
with was as materialized (
  select id, phone from prospects where id = $1 and deleted_at is null for update
)
update prospects p
set
  name = case when $2 then $3 else p.name end, phone = coalesce($4, p.phone),
  time_zone = case when $5 then $6 else p.time_zone end, status = coalesce($7, p.status),
  disposition = case when $7::text is null then p.disposition end,
  rescheduled_for = case when $8 then $9 when $7 is not null and $7 <> 'RESCHEDULED' then null else p.rescheduled_for end,
  variables = coalesce($10, p.variables), refused_at = null, updated_at = clock(),
  deleted_at = case when $11 then clock() end, external_id = case when not $11 then p.external_id end
from was w
where p.id = w.id
returning w.phone
