-- Why the calls of a campaign wait.
-- $1 campaign_id uuid
-- Used by store::campaigns::explain.
select reason as "reason!", count as "count!", clears_at from ops.explain($1) order by count desc, reason
