-- The law by area.
-- Used by store::legal_hours::list.
select area, hours as "hours: RawJson", source, as_of, created_at, updated_at from legal_hours order by area
