-- Take an upload to read, or one whose reader has died; the one that has waited longest.
-- $1 lease_secs float8
-- Used by store::uploads::take.
update uploads
set lease_until = clock() + make_interval(secs => $1), takes = takes + 1
where id = (
  select id from uploads where status = 'running' and lease_until < clock() order by lease_until, id limit 1 for update skip locked
)
returning id, user_id, campaign_id, rows_done, takes
