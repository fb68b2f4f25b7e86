-- An upload is read to its end, or cannot be read; its body is dropped.
-- $1 id uuid   $2 error text?
-- Used by store::uploads::finish.
with finished as (
  update uploads
  set status = case when $2::text is null then 'done' else 'failed' end, error = $2, finished_at = clock(), bytes_done = bytes
  where id = $1 and status in ('running', 'receiving')
  returning id
)
delete from upload_parts where upload_id in (select id from finished)
