-- Refusals that say nothing of the number, in a row: of one user they hold that user's calls back, of several the provider.
create table provider_refusals (
  provider  text        not null,
  user_id   uuid        not null,
  at        timestamptz not null default clock(),
  n         int         not null,
  reason    text        not null,
  constraint provider_refusals_pkey primary key (provider, user_id)
) with (fillfactor = 50);
comment on table provider_refusals is 'Equal refusals of a user''s calls in a row, as all processes see them; a call that is accepted ends the row.';
comment on column provider_refusals.reason is 'What was said, without digits: two refusals with the same are equal.';

create or replace view ops.provider_errors as
  select e.received_at, e.type, a.provider, a.call_id, e.attempt_id, e.body
  from events e
  join attempts a on a.id = e.attempt_id
  where e.attempt_id >= ops.uuid_floor(clock() - interval '3 hours') and e.received_at > clock() - interval '1 hour'
    and e.type in ('refused', 'barred', 'turned_away', 'capacity', 'not_sent', 'doubt', 'not_found', 'overdue');

-- A call that waits again at another time without any disposition is no promise: null is not yes.
do $$
begin
  execute replace(pg_get_functiondef('calls_tell_prospects'::regproc),
    'promised boolean := new.disposition = ''CALLBACK_REQUESTED'' and (',
    'promised boolean := new.disposition is not distinct from ''CALLBACK_REQUESTED'' and (');
end
$$;
