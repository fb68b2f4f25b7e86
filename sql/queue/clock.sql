-- The time every decision is made by.
-- Used by queue::windows.
select clock() as "at!"
