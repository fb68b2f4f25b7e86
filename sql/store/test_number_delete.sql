-- Take a number off the list of those who test.
-- $1 phone text
-- Used by store::test_numbers::delete.
delete from test_numbers where phone = identity_of($1)
