-- One row for each time we dialed: the open ones are the slots. And all that providers said about them.

create table attempts (
  id                uuid          not null,
  call_id           uuid          not null,
  user_id           uuid          not null,
  lane_id           uuid          not null,
  campaign_id       uuid,
  instance_id       uuid          not null,
  state             attempt_state not null default 'dialing',
  number            int           not null,
  revision          int           not null default 0,
  duration_secs     int,
  weight            smallint      not null default 0,
  misses            smallint      not null default 0,
  dialed            boolean       not null default false,
  billed            boolean       not null default false,
  claimed_at        timestamptz   not null,
  sent_at           timestamptz,
  accepted_at       timestamptz,
  started_at        timestamptz,
  ended_at          timestamptz,
  check_at          timestamptz   not null,
  hang_up_at        timestamptz,
  record_at         timestamptz,
  phone             text          not null,
  provider          text          not null,
  provider_call_id  text,
  carrier_call_id   text,
  disposition       text,
  hangup_cause      text,
  told              jsonb,
  transcript        text,
  summary           text,
  constraint attempts_pkey primary key (id),
  constraint attempts_number_positive check (number > 0),
  constraint attempts_ended_at_iff_ended check ((ended_at is not null) = (state = 'ended')),
  constraint attempts_duration_not_negative check (duration_secs >= 0)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
comment on table attempts is 'One time we dialed for a call, also called conversation. Committed before the provider is asked; open rows are the slots.';
comment on column attempts.revision is 'Grows with every settled change; a decision names the revision it was made on.';
comment on column attempts.instance_id is 'The process that dials it; its lease is in instances.';
comment on column attempts.weight is 'Strength of the evidence behind disposition: 0 none, 1 ours, 2 bare status, 3 carrier cause, 4 explicit outcome.';
comment on column attempts.misses is 'Look-ups in a row that found nothing, each after the quiet time.';
comment on column attempts.dialed is 'Whether it counts as a dial.';
comment on column attempts.sent_at is 'The latest moment at which the request may have left us, known only in doubt.';
comment on column attempts.check_at is 'When the provider is asked about it next, should no word come before.';
comment on column attempts.hang_up_at is 'When the provider is to be asked to hang up.';
comment on column attempts.record_at is 'When the provider is asked for the record of the ended call (billed duration, transcript, summary); null: nothing is missing.';
comment on column attempts.billed is 'duration_secs is what the provider bills, and stands.';
comment on column attempts.carrier_call_id is 'The carrier''s id of the leg to the phone, where it is another than the provider''s.';
comment on column attempts.hangup_cause is 'The cause in the provider''s or carrier''s own words, "cause/SIP code" where both were given.';
comment on column attempts.told is 'The explicit outcome as told, during the call or after.';
-- The number only grows and is never used twice. (Partial in form only: see calls_by_user.)
create unique index attempts_number_key on attempts (call_id, number) where call_id is not null;
-- At most one live attempt for a number over all users: the last word on invariant 1.
create unique index attempts_one_per_phone on attempts (phone) where ended_at is null;
create index attempts_by_record on attempts (record_at) where record_at is not null;
create index attempts_by_provider_call on attempts (provider_call_id) where provider_call_id is not null;

create table events (
  attempt_id   uuid        not null,
  key          text        not null,
  type         text        not null,
  source       text        not null,
  received_at  timestamptz not null default clock(),
  body         jsonb       not null,
  constraint events_pkey primary key (attempt_id, key)
) with (autovacuum_vacuum_insert_scale_factor = 0.1);
comment on table events is 'What was said about an attempt, by webhook, poll or answer; stored in the transaction that acts on it. May hold transcripts.';
comment on column events.key is 'The provider''s event id, else type and hash of the body: a second delivery changes nothing.';

create table stray_events (
  id                uuid        not null,
  received_at       timestamptz not null default clock(),
  attempt_id        uuid,
  provider_call_id  text,
  key               text        not null,
  word              jsonb       not null,
  constraint stray_events_pkey primary key (id),
  constraint stray_events_names_something check (attempt_id is not null or provider_call_id is not null),
  constraint stray_events_key unique nulls not distinct (attempt_id, provider_call_id, key)
);
comment on table stray_events is 'Events about calls not known yet: kept, and swept until they match.';
create index stray_events_by_provider_call on stray_events (provider_call_id);
