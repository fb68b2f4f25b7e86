-- Take the users longest unplanned; others at it pass over them.
-- $1 limit bigint
-- Used by store::planning::take_users. Buffers held by tests/it/planning.rs.
with taken as materialized (
  select user_id, row_number() over () as nth
  from (select user_id from planning order by planned_at, user_id limit $1 for update skip locked) p
),
marked as (
  update planning set planned_at = clock() where user_id = any (array(select user_id from taken))
)
select user_id as "user_id!" from taken order by nth
