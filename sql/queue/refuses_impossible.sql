-- Whether phones may ring here: numbers that no network takes are refused then.
-- Used by queue::prospects.
select coalesce((select obeys_destinations from installation), false) as "refuses!"
