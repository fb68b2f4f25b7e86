-- What must not be: rows here are bugs (it reads the whole queue, so not for every minute).
select what, id
from ops.broken
order by what, id
limit 100;
