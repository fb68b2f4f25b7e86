-- Write the law of an area.
-- $1 area text   $2 hours jsonb   $3 source text   $4 as_of date
-- Used by store::legal_hours::put.
insert into legal_hours (area, hours, source, as_of) values ($1, $2, $3, $4)
on conflict (area) do update set hours = $2, source = $3, as_of = $4, updated_at = clock()
