-- Put numbers onto a user's do-not-call list (the operator's: everybody's), and end the calls that wait for them.
-- $1 user_id uuid   $2 phones text[]   $3 reason text?   $4 by_status bool: for a phone number's status
-- $5 asked bool: by the callee, during a call
-- Needs the admission lock, shared. Used by queue::do_not_call.
select suppress_numbers($1, $2, $3, $4, $5) as "n!"
