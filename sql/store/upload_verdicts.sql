-- The verdicts of an upload behind a row, in pieces.
-- $1 upload_id uuid   $2 from_row bigint
-- Used by store::uploads::verdicts.
select first_row, verdicts from upload_verdicts where upload_id = $1 and first_row >= $2 order by first_row limit 20
