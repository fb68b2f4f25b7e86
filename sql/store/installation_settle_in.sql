-- The installation's row, made by the first process; notes what is in force, for views. A database that has dialed and is not the one
-- that was noted is a copy: dialing is held until a person has looked.
-- $1 token_key bytea, used if there is none yet   $2 max_concurrent_calls int   $3 provider text   $4 dials_per_second float8
-- $5 reserve_minutes int   $6 waiting_calls_max bigint   $7 upload_bytes_max bigint   $8 kept_answer_bytes_max bigint
-- Used by store::installation::settle_in.
insert into installation as i (
  token_key, max_concurrent_calls, provider, dials_per_second, reserve_minutes, waiting_calls_max, upload_bytes_max,
  kept_answer_bytes_max, system_identifier, timeline, database_oid
)
select $1, $2, $3, $4, $5, $6, $7, $8, d.system_identifier, d.timeline, d.database_oid from database_identity() d
on conflict (only_row) do update
set
  max_concurrent_calls = $2, provider = $3, dials_per_second = $4, reserve_minutes = $5,
  waiting_calls_max = $6, upload_bytes_max = $7, kept_answer_bytes_max = $8,
  (held_since, held_for) = (
    select
      case when i.held_since is null and w.is_copy then clock() else i.held_since end,
      case when i.held_since is null and w.is_copy then 'RESTORED_DATABASE' else i.held_for end
    from (
      -- What is not known (null) tells nothing.
      select coalesce(i.system_identifier <> excluded.system_identifier, false) or coalesce(i.timeline <> excluded.timeline, false)
        or coalesce(i.database_oid <> excluded.database_oid, false) as differs
    ) d
    cross join lateral (select d.differs and exists (select from calls) as is_copy) w
  ),
  system_identifier = case when exists (select from calls) then coalesce(i.system_identifier, excluded.system_identifier) else excluded.system_identifier end,
  timeline = case when exists (select from calls) then coalesce(i.timeline, excluded.timeline) else excluded.timeline end,
  database_oid = case when exists (select from calls) then coalesce(i.database_oid, excluded.database_oid) else excluded.database_oid end
returning token_key, held_for, exists (select from calls) as "has_calls!"
