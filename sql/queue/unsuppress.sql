-- Take a number off a list, and the status that says it is on it. What a callee asked for stays, but for an admin who says why: that is
-- noted with it.
-- $1 user_id uuid   $2 phone text   $3 admin text?   $4 reason text?
-- Needs the admission lock, shared. Used by queue::unsuppress.
with listed as materialized (
  select phone, user_id, created_at, reason, asked from suppressions where user_id = $1 and phone = identity_of($2) for update
),
gone as (
  delete from suppressions s
  using listed l
  where s.user_id = l.user_id and s.phone = l.phone and (not l.asked or ($3::text is not null and $4::text is not null))
  returning l.*
),
known as (
  update phone_numbers set status = 'valid', updated_at = clock()
  where user_id = $1 and phone = $2 and status = 'do_not_call' and exists (select from gone)
),
noted as (
  insert into audit_log (actor, action, subject, before, after)
  select $3, 'unsuppress', phone, to_jsonb(g), jsonb_build_object('reason', $4::text) from gone g where asked
)
select exists (select from gone) as "done!", exists (select from listed) as "listed!"
