-- Attempts of the last hour, a row for each minute they were claimed in, the newest first.
select minute, claimed, dialed, ended, completed
from ops.throughput
order by minute desc
limit 60;
