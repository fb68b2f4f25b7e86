-- Register or renew process $1 for $2 seconds, and tell what it last did. What it knows to be committed must be here: if it is not, this
-- database has lost commits (an older copy, a standby that was behind), and dialing is held.
-- $1 instance uuid   $2 lease_secs float8   $3 role text   $4 host text
-- $5 turn $6 settle $7 planning $8 delivery $9 housekeeping $10 word: seconds since, float8?   $11 newest_attempt uuid?
-- Used by store::instances::renew. Gives why dialing is held, if it is.
with renewed as (
  insert into instances (id, lease_until, role, host, turn_at, settle_at, planning_at, delivery_at, housekeeping_at, word_at)
  select
    $1, clock() + make_interval(secs => $2), $3, $4, clock() - make_interval(secs => $5), clock() - make_interval(secs => $6),
    clock() - make_interval(secs => $7), clock() - make_interval(secs => $8), clock() - make_interval(secs => $9),
    clock() - make_interval(secs => $10)
  on conflict (id) do update
  set
    lease_until = excluded.lease_until, turn_at = excluded.turn_at, settle_at = excluded.settle_at, planning_at = excluded.planning_at,
    delivery_at = excluded.delivery_at, housekeeping_at = excluded.housekeeping_at, word_at = excluded.word_at
),
known as materialized (
  select $11::uuid is not null and exists (select from attempts where id = $11) as here, $11::uuid is not null as told
),
lost as (
  update installation set held_since = clock(), held_for = 'LOST_COMMITS'
  where held_since is null and (select told and not here from known)
    and (hold_lifted_at is null or $11::uuid >= ops.uuid_floor(hold_lifted_at))
  returning held_for
),
-- A standby that took over and has everything is the database from now on.
moved as (
  update installation i set timeline = d.timeline
  from database_identity() d
  where i.held_since is null and (select here from known) and d.timeline <> i.timeline
)
select coalesce((select held_for from lost), (select held_for from installation)) as held_for
