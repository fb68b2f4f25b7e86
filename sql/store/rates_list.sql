-- Rates, by prefix.
-- $1 above text?, the cursor   $2 limit bigint
-- Used by store::rates::list.
select prefix, per_minute::float8 as "per_minute!" from rates where $1::text is null or prefix > $1 order by prefix limit $2
