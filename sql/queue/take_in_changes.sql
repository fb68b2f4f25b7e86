-- Has what plain SQL changed of a user take effect.
-- $1 user uuid   $2 changes at most int
-- Needs the admission lock, exclusive. Used by queue::plain_sql.
select take_in_changes($1, $2) as "taken!"
