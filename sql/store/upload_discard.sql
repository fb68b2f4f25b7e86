-- Drop an upload that was never received whole.
-- $1 id uuid
-- Used by store::uploads::discard.
with gone as (
  delete from uploads where id = $1 and status = 'receiving' returning id
)
delete from upload_parts where upload_id in (select id from gone)
