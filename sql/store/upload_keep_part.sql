-- Keep a piece of the body.
-- $1 upload_id uuid   $2 nth int   $3 body bytea
-- Used by store::uploads::keep_part.
insert into upload_parts (upload_id, nth, body) values ($1, $2, $3) on conflict do nothing
