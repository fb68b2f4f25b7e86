-- How many deliveries an endpoint has.
-- $1 endpoint_id uuid
-- Used by store::deliveries::of_endpoint.
select count(*) as "n!" from deliveries where endpoint_id = $1
