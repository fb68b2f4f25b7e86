-- Make everything of a user deserve a look.
-- $1 user_id uuid
-- Needs the admission lock, exclusive. Used by queue::wake_user.
select wake_user($1)
