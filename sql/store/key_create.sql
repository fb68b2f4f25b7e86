-- Keep a new key by its hash.
-- $1 id uuid   $2 user_id uuid?, null = admin   $3 name text   $4 hash bytea   $5 expires_at timestamptz?   $6 scopes text[]
-- Used by store::keys::create.
insert into api_keys (id, user_id, name, hash, expires_at, scopes) values ($1, $2, $3, $4, $5, $6)
