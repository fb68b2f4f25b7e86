-- Phone numbers with this id or external id: more than one when users share an external id.
-- $1 id uuid?   $2 external_id text?   $3 user_id uuid?, null = of anybody
-- Used by store::phone_numbers::find.
select id, user_id, external_id, phone as number, status, created_at, updated_at
from phone_numbers
where id in (select id from phone_numbers where id = $1 union all select id from phone_numbers where external_id = $2)
  and ($3::uuid is null or user_id = $3)
limit 2
