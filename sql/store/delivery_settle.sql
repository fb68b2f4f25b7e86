-- Note what came of a try, of the delivery and of its endpoint. A failure puts the endpoint to sleep as a whole, a success makes it
-- well; one that is gone, or has failed for days without a success, is disabled. The next events of the same call wait for this one.
-- A failure of an older try than the newest changes nothing.
-- $1 id uuid   $2 attempts int: which try   $3 state text   $4 status int?   $5 error text?   $6 again_secs float8
-- $7 failures int: of the endpoint when it was taken; another number than it has now: this try does not count against it
-- $8 sleep_secs float8   $9 after_secs float8: as the endpoint asked   $10 gone bool   $11 disable_days float8
-- Used by store::deliveries::settle. Answers the endpoint when this disabled it.
with settled as (
  update deliveries
  set
    state = $3, last_status = $4, last_error = $5, due_at = clock() + make_interval(secs => $6::float8),
    ended_at = case when $3 <> 'waiting' then clock() end
  where id = $1 and ended_at is null and ($3 = 'delivered' or attempts = $2)
  returning id, endpoint_id, call_id, state, due_at
),
followers as (
  update deliveries f
  set due_at = case when s.state = 'waiting' then s.due_at else clock() end
  from settled s
  where f.id = any (array(
      select n.id
      from deliveries n
      where n.endpoint_id = (select endpoint_id from settled) and n.call_id = (select call_id from settled) and n.state = 'waiting'
        and n.id > $1 and n.attempts = 0))
    and case when s.state = 'waiting' then f.due_at < s.due_at else f.due_at > clock() end
),
told as (
  select e.id, s.state <> 'delivered' and e.failures = $7::int as counts, s.state = 'delivered' as well, e.failing_since
  from settled s
  join webhook_endpoints e on e.id = s.endpoint_id
  where e.disabled_at is null
  for update of e
),
changed as (
  update webhook_endpoints e
  set
    failures = case when t.well then 0 when t.counts then least(e.failures, 1000000) + 1 else e.failures end,
    failing_since = case when t.well then null when t.counts then coalesce(e.failing_since, clock()) else e.failing_since end,
    retry_at = case
      when t.well then '-infinity'
      when t.counts then clock() + make_interval(secs => greatest($8::float8, $9::float8))
      when $9::float8 > 0 then greatest(e.retry_at, clock() + make_interval(secs => $9::float8))
      else e.retry_at
    end,
    last_error = case when t.well then null when t.counts then $5 else e.last_error end,
    disabled_reason = v.reason,
    disabled_at = case when v.reason is not null then clock() end,
    updated_at = case when v.reason is not null then clock() else e.updated_at end
  from told t
  cross join lateral (
    select case
      when $10::bool then 'GONE'
      when not t.well and t.counts and t.failing_since <= clock() - make_interval(secs => $11::float8 * 86400) then 'FAILING'
    end as reason
  ) v
  where e.id = t.id and not (t.well and e.failures = 0 and e.retry_at = '-infinity')
  returning e.id, e.user_id, e.disabled_reason
)
select id, user_id, disabled_reason as "reason!" from changed where disabled_reason is not null
