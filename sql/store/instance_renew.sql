-- Register or renew process $1 for $2 seconds.
-- $1 instance uuid   $2 lease_secs float8   $3 role text   $4 host text
-- Used by store::instances::renew.
insert into instances (id, lease_until, role, host)
values ($1, clock() + make_interval(secs => $2), $3, $4)
on conflict (id) do update set lease_until = excluded.lease_until
