-- A user's do-not-call list, by number.
-- $1 user_id uuid   $2 above text?: numbers behind this one   $3 limit bigint   $4 offset bigint
-- Used by store::suppressions::list.
select phone as number, reason, asked, created_at from suppressions
where user_id = $1 and user_id is not null and ($2::text is null or phone > $2)
order by phone
limit $3 offset $4
