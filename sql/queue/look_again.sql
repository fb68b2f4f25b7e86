-- Right before the request: which of the attempts $1 may still be dialed, and why not the others.
-- $1 attempt_ids uuid[]   $2 dial_guard_secs float8
-- Used by queue::look_again.
select
  a.id,
  case
    when a.state <> 'dialing' then 'GONE'
    when c.cancel_requested_at is not null then 'CANCELED'
    when exists (select from suppressions s
                 where s.phone = a.phone and s.user_id in (a.user_id, '00000000-0000-7000-8000-000000000001')) then 'DO_NOT_CALL'
    when l.paused then 'CAMPAIGN_PAUSED'
    when clock() < l.opens_at or clock() + make_interval(secs => $2) >= l.closes_at then 'WINDOW_CLOSED'
    when c.expires_at <= clock() then 'EXPIRED'
  end as bar
from attempts a
join calls c on c.id = a.call_id
join lanes l on l.id = a.lane_id
where a.id = any ($1)
