-- When this database dialed last; or, where it never has, when its first call was made.
-- Used by queue::newest_dial.
select coalesce(
  (select claimed_at from attempts order by id desc limit 1),
  (select created_at from calls order by id limit 1))
