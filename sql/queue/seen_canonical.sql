-- These numbers on do-not-call lists have been looked at: where their canonical form is another, it stands beside them by now.
-- $1 phones text[]   $2 user_ids uuid[]
-- Used by queue::do_not_call.
update suppressions s
set canonical = true
from unnest($1::text[], $2::uuid[]) as i(phone, user_id)
where s.phone = any ($1) and s.phone = i.phone and s.user_id = i.user_id
