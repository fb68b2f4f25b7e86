-- Drop the law of an area: its country's or the general one holds then. The general one stays.
-- $1 area text
-- Used by store::legal_hours::delete.
delete from legal_hours where area = $1 and area <> '*'
