-- A new schedule; nothing when the id exists: a repeat.
-- $1 id uuid   $2 user_id uuid   $3 name text   $4 time_zone text   $5 hours jsonb   $6 closed_dates date[]   $7 external_id text?
-- Used by store::schedules::create.
insert into schedules (id, user_id, name, time_zone, hours, closed_dates, external_id)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do nothing
