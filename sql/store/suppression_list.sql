-- A user's do-not-call list, newest first.
-- $1 user_id uuid   $2 limit bigint   $3 offset bigint
-- Used by store::suppressions::list.
select phone as number, reason, created_at from suppressions
where user_id = $1
order by created_at desc, phone
limit $2 offset $3
