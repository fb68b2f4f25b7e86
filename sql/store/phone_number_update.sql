-- Change a phone number; null keeps a field.
-- $1 id uuid   $2 phone text?   $3 status text?
-- Used by store::phone_numbers::update.
update phone_numbers set phone = coalesce($2, phone), status = coalesce($3, status), updated_at = clock() where id = $1
