-- Create prospects of a user. A number or external id the user has already is left out; a repeat with the same id is told as created.
-- $1 user_id uuid   $2 ids uuid[]   $3 external_ids text[]?   $4 names text[]?   $5 phones text[]   $6 time_zones text[]?
-- $7 statuses text[]   $8 rescheduled_fors timestamptz[]?   $9 variables jsonb[]
-- Needs the admission lock, exclusive. Used by queue::create_prospects.
with item as materialized (
  select *
  from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::jsonb[])
    as i(id, external_id, name, phone, time_zone, status, rescheduled_for, variables)
),
created as (
  insert into prospects (id, user_id, external_id, name, phone, time_zone, status, rescheduled_for, variables)
  select id, $1, external_id, name, phone, time_zone, status, rescheduled_for, variables from item
  on conflict do nothing
  returning id
)
select id from created
union
select p.id from prospects p where p.id = any ($2)
