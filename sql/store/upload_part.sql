-- The nth piece of a body.
-- $1 upload_id uuid   $2 nth int
-- Used by store::uploads::part.
select body from upload_parts where upload_id = $1 and nth = $2
