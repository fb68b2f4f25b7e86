-- Events that users' endpoints have not taken: on their way, or given up; and what is the matter with the endpoint.
select e.url, e.failing_since, nullif(e.retry_at, '-infinity') as retry_at, e.disabled_reason, d.type, d.state, count(*) as events, min(d.created_at) as oldest, max(d.attempts) as tries, max(d.last_error) as last_error
from deliveries d
join webhook_endpoints e on e.id = d.endpoint_id
where d.state in ('waiting', 'dead')
group by e.id, d.type, d.state
order by events desc
limit 100;
