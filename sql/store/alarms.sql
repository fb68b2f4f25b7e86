-- What is wrong now.
-- Used by store::installation::alarms.
select code as "code!", since, what as "what!", way_out as "way_out!" from ops.alarms order by code
