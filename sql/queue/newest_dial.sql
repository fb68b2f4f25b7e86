-- When this database dialed last.
-- Used by queue::newest_dial.
select max(claimed_at) from attempts where id = (select id from attempts order by id desc limit 1)
