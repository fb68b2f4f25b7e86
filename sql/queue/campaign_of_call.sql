-- Whose lanes a call belongs to, and the zone it was given.
-- $1 call_id uuid   $2 user_id uuid?, null = any
-- Used by queue::amend.
select campaign_id, user_id, ignore_window, time_zone from calls where id = $1 and ($2::uuid is null or user_id = $2)
