-- Take a number off a list, and the status that says it is on it.
-- $1 user_id uuid   $2 phone text
-- Needs the admission lock, shared. Used by queue::unsuppress.
with gone as (
  delete from suppressions where user_id = $1 and phone = $2 returning phone
),
known as (
  update phone_numbers set status = 'valid', updated_at = clock()
  where user_id = $1 and phone = $2 and status = 'do_not_call' and exists (select from gone)
)
select exists (select from gone) as "done!"
