-- Numbers of people who test, by number.
-- $1 above text?, the cursor   $2 limit bigint
-- Used by store::test_numbers::list.
select phone, note, created_at from test_numbers where $1::text is null or phone > $1 order by phone limit $2
