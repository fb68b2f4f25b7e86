-- A number whose status forbids calls no longer: only the status's own entry leaves the list.
-- $1 user_id uuid   $2 phone text
-- Needs the admission lock, shared. Used by queue::do_not_call.
delete from suppressions where user_id = $1 and phone = identity_of($2) and by_status
