-- Put other rates in place of those there are.
-- $1 prefixes text[]   $2 per_minute float8[]
-- Used by store::rates::put, which has deleted those there were.
insert into rates (prefix, per_minute)
select r.prefix, r.per_minute from unnest($1::text[], $2::float8[]) as r(prefix, per_minute)
