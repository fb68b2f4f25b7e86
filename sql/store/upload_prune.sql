-- Drop what was never received whole, and uploads older than so many days.
-- $1 days int
-- Used by store::uploads::prune.
with old as (
  delete from uploads
  where (status = 'receiving' and created_at < clock() - interval '1 day')
     or (finished_at < clock() - make_interval(days => $1))
  returning id
),
parts as (
  delete from upload_parts where upload_id in (select id from old)
)
delete from upload_verdicts where upload_id in (select id from old)
