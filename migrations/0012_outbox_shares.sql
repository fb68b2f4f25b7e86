-- The outbox keeps its tenants apart: an endpoint that fails is left alone as a whole, one that fails for days is disabled, and what
-- is due is found endpoint by endpoint.

alter table webhook_endpoints
  add column failing_since timestamptz,
  add column failures int not null default 0,
  add column retry_at timestamptz not null default '-infinity',
  add column disabled_reason text,
  add column last_error text;
comment on column webhook_endpoints.disabled_at is 'Nothing is sent any more; disabled_reason says why.';
comment on column webhook_endpoints.disabled_reason is 'REQUESTED: asked for. GONE: it answered 410. FAILING: for days nothing it was sent was taken.';
comment on column webhook_endpoints.failing_since is 'The first failure since the last success; null: it is well.';
comment on column webhook_endpoints.failures is 'Failures in a row. Of what was on its way at once, one counts. While there are any, one delivery at a time is tried.';
comment on column webhook_endpoints.retry_at is 'Nothing is sent before. -infinity: there is nothing to wait for.';
comment on column webhook_endpoints.last_error is 'Of the newest failure since the last success.';

update webhook_endpoints e
set disabled_reason = case when exists (select from deliveries d where d.endpoint_id = e.id and d.last_status = 410) then 'GONE' else 'REQUESTED' end
where e.disabled_at is not null;
alter table webhook_endpoints
  add constraint webhook_endpoints_disabled_for_a_reason check ((disabled_at is null) = (disabled_reason is null)),
  add constraint webhook_endpoints_disabled_reason_known check (disabled_reason in ('REQUESTED', 'GONE', 'FAILING')),
  add constraint webhook_endpoints_failing_iff_failures check ((failing_since is null) = (failures = 0));

-- An event about an endpoint is about no call.
alter table deliveries alter column call_id drop not null;
comment on column deliveries.call_id is 'Events of one call arrive in order; null: it is about no call.';

create index deliveries_of_endpoint_due on deliveries (endpoint_id, due_at, id) where state = 'waiting';
comment on index deliveries_of_endpoint_due is 'What one endpoint is to be told next, and which endpoints are to be told anything, without reading what else waits.';
drop index deliveries_due;

-- Who has another endpoint is told there that one was disabled.
create function endpoints_tell_endpoints() returns trigger
language plpgsql
as $$
begin
  perform tell_endpoints(new.user_id, null, 'endpoint.disabled', jsonb_strip_nulls(jsonb_build_object(
    'endpointId', new.id, 'userId', new.user_id, 'url', new.url, 'reason', new.disabled_reason,
    'failingSince', to_char(new.failing_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'lastError', new.last_error)));
  return null;
end
$$;
comment on function endpoints_tell_endpoints() is 'Writes into the outbox that an endpoint was disabled, for the other endpoints of its user.';
create trigger endpoints_tell_endpoints after update on webhook_endpoints
  for each row when (old.disabled_reason is null and new.disabled_reason in ('FAILING', 'GONE')) execute function endpoints_tell_endpoints();
