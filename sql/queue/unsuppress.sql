-- Take a number off a list.
-- $1 user_id uuid   $2 phone text
-- Used by queue::unsuppress.
delete from suppressions where user_id = $1 and phone = $2
