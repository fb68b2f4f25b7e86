-- The law by area.
-- Used by queue::windows.
select area, hours from legal_hours
