-- Forget processes whose lease ended a day ago and whose attempts have all ended.
-- Used by store::instances::prune.
delete from instances i
where i.lease_until < clock() - interval '1 day'
  and not exists (select from attempts a where a.ended_at is null and a.instance_id = i.id)
