-- The law by area.
-- Used by queue::windows.
select area, hours as "hours: RawJson" from legal_hours
