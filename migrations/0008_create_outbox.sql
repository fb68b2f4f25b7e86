-- What users want to be told, and what is on its way to them: an outbox, written by the statement that makes the news.

create table webhook_endpoints (
  id           uuid        not null,
  user_id      uuid        not null,
  created_at   timestamptz not null default clock(),
  updated_at   timestamptz not null default clock(),
  disabled_at  timestamptz,
  url          text        not null,
  secret       text        not null,
  events       text[]      not null,
  constraint webhook_endpoints_pkey primary key (id),
  constraint webhook_endpoints_user_fkey foreign key (user_id) references users (id) on delete cascade
);
comment on table webhook_endpoints is 'Where users want events sent, and the secret they are signed with (Standard Webhooks: it has to be known here).';
comment on column webhook_endpoints.disabled_at is 'Nothing is sent any more: asked for, or the endpoint said it is gone (410).';
create index webhook_endpoints_by_user on webhook_endpoints (user_id, id);

create table deliveries (
  id           uuid        not null,
  endpoint_id  uuid        not null,
  user_id      uuid        not null,
  call_id      uuid        not null,
  created_at   timestamptz not null default clock(),
  due_at       timestamptz not null default clock(),
  ended_at     timestamptz,
  attempts     int         not null default 0,
  last_status  int,
  state        text        not null default 'waiting',
  type         text        not null,
  last_error   text,
  payload      jsonb       not null,
  constraint deliveries_pkey primary key (id),
  constraint deliveries_state_known check (state in ('waiting', 'delivered', 'dead')),
  constraint deliveries_ended_iff_not_waiting check ((ended_at is null) = (state = 'waiting'))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
comment on table deliveries is 'Events on their way: at least once, in order for each call and endpoint, tried for a day, then dead until replayed.';
comment on column deliveries.id is 'The webhook-id: the same however often it is tried.';
create index deliveries_due on deliveries (due_at) where state = 'waiting';
create index deliveries_in_order on deliveries (endpoint_id, call_id, id) where state = 'waiting';
create index deliveries_ended on deliveries (ended_at) where ended_at is not null;
create index deliveries_of_endpoint on deliveries (endpoint_id, id);

create function tell_endpoints("user" uuid, call uuid, event text, data jsonb) returns void
language sql
as $$
  insert into deliveries (id, endpoint_id, user_id, call_id, type, payload)
  select uuid_v7(), e.id, e.user_id, call, event,
    jsonb_build_object('type', event, 'timestamp', to_char(clock() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'data', data)
  from webhook_endpoints e
  where e.user_id = "user" and e.disabled_at is null and event = any (e.events)
$$;
comment on function tell_endpoints(uuid, uuid, text, jsonb) is 'Puts an event into the outbox for each endpoint of the user that wants it.';

-- Calls that have come to an end, or were promised another time.
create function calls_tell_endpoints() returns trigger
language plpgsql
as $$
begin
  if not exists (select from webhook_endpoints where disabled_at is null) then
    return null;
  end if;
  perform tell_endpoints(n.user_id, n.id, v.event, jsonb_strip_nulls(jsonb_build_object(
    'callId', n.id, 'userId', n.user_id, 'campaignId', n.campaign_id, 'prospectId', n.prospect_id, 'externalId', n.external_id,
    'status', public_status(n.state), 'disposition', n.disposition, 'attempts', n.dials, 'scheduledAt', case when n.state = 'waiting' then n.due_at end,
    'metadata', case when pg_column_size(n.metadata) < 8000 then n.metadata end,
    'conversationId', a.id, 'duration', a.duration_secs, 'outcome', a.told
  )))
  from fresh n
  join stale o on o.id = n.id
  cross join lateral (
    select case
      when n.state in ('completed', 'failed', 'expired', 'canceled') and (o.state <> n.state or o.disposition is distinct from n.disposition)
        then 'call.' || n.state::text
      when n.state = 'waiting' and n.disposition = 'CALLBACK_REQUESTED' and o.state = 'live' and n.due_at <> o.due_at then 'call.rescheduled'
    end as event
  ) v
  left join lateral (select id, duration_secs, told from attempts where call_id = n.id and number = n.attempt_number) a on true
  where v.event is not null;
  return null;
end
$$;
comment on function calls_tell_endpoints() is 'Writes what became of calls into the outbox, in the statement that made it so.';
create trigger calls_tell_endpoints after update on calls
  referencing old table as stale new table as fresh
  for each statement execute function calls_tell_endpoints();

create function appointments_tell_endpoints() returns trigger
language plpgsql
as $$
begin
  perform tell_endpoints(new.user_id, new.call_id, 'appointment.created', jsonb_strip_nulls(jsonb_build_object(
    'appointmentId', new.id, 'userId', new.user_id, 'prospectId', new.prospect_id, 'callId', new.call_id,
    'conversationId', new.attempt_id, 'startsAt', new.starts_at)));
  return null;
end
$$;
comment on function appointments_tell_endpoints() is 'Writes a new appointment into the outbox.';
create trigger appointments_tell_endpoints after insert on appointments
  for each row execute function appointments_tell_endpoints();
