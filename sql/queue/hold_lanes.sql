-- Take hold of lanes $1 before their windows are written, so that none is passed over: a rule that has changed must hold for each.
-- $1 ids uuid[]
-- Needs the admission lock, exclusive. Used by queue::windows.
select l.id
from lanes l
join user_turns t on t.user_id = l.user_id
where l.id = any ($1)
for no key update of l, t
