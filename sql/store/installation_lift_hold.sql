-- Lift the hold: a person has looked. The database is from now on the one this installation dials on.
-- $1 actor text
-- Used by store::installation::lift_hold. No row: nothing was held.
with was as materialized (
  select held_since, held_for from installation where held_since is not null
),
lifted as (
  update installation i
  set held_since = null, held_for = null, hold_lifted_at = clock(), system_identifier = d.system_identifier, timeline = d.timeline, database_oid = d.database_oid
  from was w, database_identity() d
  returning i.only_row
)
insert into audit_log (actor, action, subject, before, after)
select $1, 'lift_hold', 'installation', jsonb_build_object('heldSince', w.held_since, 'heldFor', w.held_for), '{}'
from was w, lifted
