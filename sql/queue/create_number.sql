-- A new phone number; nothing when the id exists: a repeat.
-- $1 id uuid   $2 user_id uuid   $3 phone text   $4 status text   $5 external_id text?
-- Used by queue::do_not_call.
insert into phone_numbers (id, user_id, phone, status, external_id) values ($1, $2, $3, $4, $5)
on conflict (id) do nothing
