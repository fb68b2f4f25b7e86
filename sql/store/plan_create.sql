-- A new plan; nothing when the id exists: a repeat.
-- $1 id uuid   $2 external_id text?   $3 name text   $4 price float8   $5 minutes int   $6 duration int   $7 per_day int?
-- Used by store::plans::create.
insert into plans (id, external_id, name, price, minutes, duration_days, per_day)
values ($1, $2, $3, ($4::float8)::numeric, $5, $6, $7)
on conflict (id) do nothing
