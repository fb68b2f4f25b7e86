-- How many plans there are.
-- Used by store::plans::list.
select count(*) as "n!" from plans
