-- Keep a new endpoint; nothing when the id exists: a repeat.
-- $1 id uuid   $2 user_id uuid   $3 url text   $4 secret text   $5 events text[]
-- Used by store::deliveries::create.
insert into webhook_endpoints (id, user_id, url, secret, events) values ($1, $2, $3, $4, $5)
on conflict (id) do nothing
