-- Events that users' endpoints have not taken: on their way, or given up.
select e.url, d.type, d.state, count(*) as events, min(d.created_at) as oldest, max(d.attempts) as tries, max(d.last_error) as last_error
from deliveries d
join webhook_endpoints e on e.id = d.endpoint_id
where d.state in ('waiting', 'dead')
group by e.url, d.type, d.state
order by events desc
limit 100;
