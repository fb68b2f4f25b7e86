-- Which numbers a user knows to be invalid.
-- $1 user_id uuid   $2 phones text[]
-- Used by queue::recruit.
select phone from phone_numbers where user_id = $1 and phone = any ($2) and status = 'invalid'
