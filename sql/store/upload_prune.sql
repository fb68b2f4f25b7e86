-- Drop up to $2 of the uploads that were never received whole, or ended so many days ago, with their parts and verdicts.
-- $1 days int   $2 limit bigint
-- Used by store::uploads::prune.
with old as (
  delete from uploads
  where id = any (array(
    select id from uploads
    where (status = 'receiving' and created_at < clock() - interval '1 day')
       or (finished_at < clock() - make_interval(days => $1))
    limit $2
    for update skip locked
  ))
  returning id
),
parts as (
  delete from upload_parts where upload_id in (select id from old)
),
verdicts as (
  delete from upload_verdicts where upload_id in (select id from old)
)
select count(*) as "n!" from old
