-- A new upload, being received.
-- $1 id uuid   $2 user_id uuid   $3 campaign_id uuid?
-- Used by store::uploads::create.
insert into uploads (id, user_id, campaign_id) values ($1, $2, $3) on conflict (id) do nothing
