-- How many calls a list has; counted up to $7 rows, since nobody pages further than that.
-- $1 user_id uuid?   $2 status text?   $3 phone text?   $4 campaign_id uuid?   $5 since timestamptz?   $6 until timestamptz?
-- $7 count_max bigint
-- Used by store::calls::count, where tallies cannot answer.
select count(*) as "count!"
from (
  select
  from calls c
  where ($1::uuid is null or c.user_id = $1)
    and ($2::text is null or public_status(c.state) = $2)
    and ($3::text is null or c.phone = $3)
    and ($4::uuid is null or c.campaign_id = $4)
    and ($5::timestamptz is null or c.id >= ops.uuid_floor($5))
    and ($6::timestamptz is null or c.id < ops.uuid_floor($6))
  limit $7
) counted
