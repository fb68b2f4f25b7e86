-- Give an endpoint another secret; the present one signs beside it for a while.
-- $1 user_id uuid   $2 id uuid   $3 secret text   $4 overlap_secs float8: 0, the present one ends at once
-- Used by store::deliveries::rotate.
update webhook_endpoints
set
  secret = $3, updated_at = clock(),
  previous_secret = case when $4::float8 > 0 then secret end,
  previous_secret_until = case when $4::float8 > 0 then clock() + make_interval(secs => $4::float8) end
where user_id = $1 and id = $2
