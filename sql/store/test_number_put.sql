-- List a number of somebody who tests.
-- $1 phone text   $2 note text?
-- Used by store::test_numbers::put.
insert into test_numbers as t (phone, note) values (identity_of($1), $2)
on conflict (phone) do update set note = excluded.note
returning phone as "phone!", note, created_at as "created_at!"
