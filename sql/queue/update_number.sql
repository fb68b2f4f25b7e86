-- Change a phone number; null keeps a field.
-- $1 id uuid   $2 phone text?   $3 status text?
-- Used by queue::do_not_call.
with was as materialized (
  select id, user_id, phone from phone_numbers where id = $1 for update
)
update phone_numbers n
set phone = coalesce($2, n.phone), status = coalesce($3, n.status), updated_at = clock()
from was w
where n.id = $1 and n.id = w.id
returning w.user_id, w.phone as phone_was, n.phone, n.status
