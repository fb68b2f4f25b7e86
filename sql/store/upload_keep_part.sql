-- Keep a piece of the body.
-- $1 upload_id uuid   $2 nth int   $3 body bytea
-- Used by store::uploads::keep_part.
with counted as (
  update uploads set bytes = bytes + octet_length($3::bytea) where id = $1 and status = 'receiving'
)
insert into upload_parts (upload_id, nth, body) values ($1, $2, $3) on conflict do nothing
