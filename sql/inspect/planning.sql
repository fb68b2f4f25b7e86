-- What the last planning batch did for each user, or why it skipped them; longest unplanned first.
select u.name, p.planned_at, p.report ->> 'skipped' as skipped, jsonb_array_length(p.report -> 'planned') as planned,
  jsonb_array_length(p.report -> 'notPlanned') as not_planned
from planning p
join users u on u.id = p.user_id
order by p.planned_at, u.id
limit 100;
