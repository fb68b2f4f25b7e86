-- One upload.
-- $1 id uuid   $2 user_id uuid?, null = of anybody
-- Used by store::uploads::get.
select id, user_id, campaign_id, status, bytes, bytes_done, rows_done, accepted, rejected, error, created_at, finished_at
from uploads where id = $1 and ($2::uuid is null or user_id = $2)
