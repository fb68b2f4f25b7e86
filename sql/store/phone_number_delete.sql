-- Delete a phone number.
-- $1 id uuid
-- Used by store::phone_numbers::delete.
delete from phone_numbers where id = $1
