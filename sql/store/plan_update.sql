-- Write a plan anew; the trigger has everybody who subscribes to it looked at again.
-- $1 id uuid   $2 name text   $3 price float8   $4 minutes int   $5 duration int   $6 per_day int?
-- Used by store::plans::update.
update plans set name = $2, price = ($3::float8)::numeric, minutes = $4, duration_days = $5, per_day = $6, updated_at = clock()
where id = $1
