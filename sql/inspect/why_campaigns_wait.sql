-- Why the calls of each open campaign wait: counts by reason, and when the first of them clears.
select g.name, e.reason, e.count, e.clears_at
from ops.campaigns g
cross join lateral ops.explain(g.id) e
where g.pending > 0
order by g.name, e.count desc
limit 200;
