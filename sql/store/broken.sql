-- Invariants that do not hold, and how often.
-- Used by store::installation::broken.
select what || ' (' || count(*) || ')' as "what!" from ops.broken group by what order by what
