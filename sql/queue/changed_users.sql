-- Users of whom plain SQL has changed something, whoever waits longest first.
-- $1 limit bigint
-- Used by queue::plain_sql.
select user_id from sql_changes group by user_id order by min(id) limit $1
