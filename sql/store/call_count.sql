-- How many calls a list has; counted up to $7 rows, since nobody pages further than that.
-- $1 user_id uuid?   $2 status text?   $3 phone text?   $4 campaign_id uuid?   $5 since timestamptz?   $6 until timestamptz?
-- $7 count_max bigint
-- Used by store::calls::count, where tallies cannot answer. The status is put as in call_list.sql, for the same indexes.
select count(*) as "count!"
from (
  select
  from calls c
  where ($1::uuid is null or c.user_id = $1)
    and ($2::text is null or $2 <> 'PENDING' or c.state in ('waiting', 'parked'))
    and ($2::text is null or $2 <> 'IN_PROGRESS' or (
      c.state = 'live' and c.id = any (array(select a.call_id from attempts a where a.ended_at is null))))
    and ($2::text is null or $2 <> 'COMPLETED' or c.state = 'completed')
    and ($2::text is null or $2 <> 'FAILED' or c.state = 'failed')
    and ($2::text is null or $2 <> 'EXPIRED' or c.state = 'expired')
    and ($2::text is null or $2 <> 'CANCELED' or c.state = 'canceled')
    -- Always true; each opens the index made for such a list (see 0013_list_indexes.sql).
    and ($4::uuid is not null or $2::text is null or $2 in ('PENDING', 'IN_PROGRESS') or c.ended_at is not null)
    and ($1::uuid is not null or $4::uuid is not null or $2::text is null or $2 in ('PENDING', 'IN_PROGRESS') or c.ended_at > '-infinity')
    and ($1::uuid is not null or $4::uuid is not null or $2::text is null or $2 <> 'PENDING' or c.ended_at is null)
    and ($3::text is null or c.phone = identity_of($3))
    and ($4::uuid is null or c.campaign_id = $4)
    and ($5::timestamptz is null or c.id >= ops.uuid_floor($5))
    and ($6::timestamptz is null or c.id < ops.uuid_floor($6))
  limit $7
) counted
