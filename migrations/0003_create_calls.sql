-- The queue. Finished calls leave every hot index by predicate, so they cost a claim nothing.

create table calls (
  id                   uuid        not null,
  user_id              uuid        not null,
  lane_id              uuid        not null,
  campaign_id          uuid,
  state                call_state  not null default 'waiting',
  rank                 smallint    not null default 3,
  priority             smallint    not null default 3,
  dials                smallint    not null default 0,
  dials_max            smallint    not null,
  dials_granted        smallint    not null default 0,
  attempt_number       int         not null default 0,
  due_at               timestamptz not null,
  created_at           timestamptz not null default clock(),
  updated_at           timestamptz not null default clock(),
  expires_at           timestamptz,
  ended_at             timestamptz,
  cancel_requested_at  timestamptz,
  phone                text        not null,
  script_id            text        not null,
  disposition          text,
  external_id          text,
  time_zone            text,
  ignore_window        boolean     not null default false,
  metadata             jsonb       not null default '{}',
  variables            jsonb       not null default '{}',
  constraint calls_pkey primary key (id),
  constraint calls_phone_e164 check (phone ~ '^\+[1-9][0-9]{6,14}$'),
  constraint calls_rank_known check (rank between 0 and 4),
  constraint calls_priority_known check (priority in (1, 3, 4)),
  constraint calls_dials_within_attempts check (dials between 0 and attempt_number),
  constraint calls_dials_max_range check (dials_max between 1 and 1000),
  constraint calls_ended_at_iff_final check ((ended_at is not null) = (state in ('completed', 'failed', 'expired', 'canceled'))),
  constraint calls_live_has_attempt check (state <> 'live' or attempt_number > 0),
  constraint calls_expired_never_dialed check (state <> 'expired' or dials = 0)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
comment on table calls is 'The job: reach this number with this script. One row from creation to its end.';
comment on column calls.rank is 'Order within a lane: 0 promised callback, 1 high, 2 retry, 3 normal, 4 low; then by due_at.';
comment on column calls.priority is 'What was asked for: 1 high, 3 normal, 4 low. A retry of a normal call gets rank 2.';
comment on column calls.dials is 'Dials so far; refusals for capacity and requests never sent are none. Shown as attempts.';
comment on column calls.dials_max is 'Dials in all before it is FAILED; for a call of a campaign, its max_retries + 1 + dials_granted counts instead.';
comment on column calls.dials_granted is 'Dials beyond the campaign''s, given by hand.';
comment on column calls.attempt_number is 'Number of the newest attempt; only grows. With the call id it names the attempt that may still change this call.';
comment on column calls.due_at is 'Not before this time.';
comment on column calls.expires_at is 'Not after this time: EXPIRED when nothing was dialed by then, FAILED with the last disposition otherwise.';
comment on column calls.cancel_requested_at is 'Cancel asked while live: the hang-up is asked of the provider and nothing is retried.';
comment on column calls.time_zone is 'The callee''s zone as given with the call.';
create index calls_waiting on calls (lane_id, rank, due_at, id) where state = 'waiting';
create index calls_parked on calls (phone, lane_id, rank, due_at, id) where state = 'parked';
create index calls_expiring on calls (expires_at) where state in ('waiting', 'parked') and expires_at is not null;
-- "is not null" is always true: it hides these indexes from statements that look for ids, so that a plan made while the
-- table is small can only be a look-up by primary key.
create index calls_by_user on calls (user_id, id) where user_id is not null;
create index calls_by_phone on calls (phone, id) where phone is not null;
create index calls_by_campaign on calls (campaign_id, id) where campaign_id is not null;
create index calls_pending on calls (id) where state in ('waiting', 'parked');
create index calls_unhappy on calls (state, id) where state in ('failed', 'expired', 'canceled');
create unique index calls_once_in_campaign on calls (campaign_id, phone) where campaign_id is not null;
create unique index calls_external_id_key on calls (user_id, external_id) where external_id is not null;

create function urgent_of(lane uuid) returns timestamptz
language sql stable
as $$
  select least(
    (select due_at from calls where lane_id = lane and state = 'waiting' and rank = 0 order by due_at limit 1),
    (select due_at from calls where lane_id = lane and state = 'waiting' and rank = 1 order by due_at limit 1),
    'infinity')
$$;
comment on function urgent_of(uuid) is 'When the first waiting call of rank 0 or 1 of a lane falls due.';

-- Counts by status without counting: every statement that moves calls appends what it moved, in its own transaction;
-- the scheduler folds the deltas. Read both and the sum is exact at any moment.
create table tallies (
  lane_id      uuid   not null,
  user_id      uuid   not null,
  campaign_id  uuid,
  what         text   not null,
  n            bigint not null,
  constraint tallies_pkey primary key (lane_id, what)
) with (fillfactor = 70);
create index tallies_by_user on tallies (user_id, campaign_id);
create index tallies_by_campaign on tallies (campaign_id) where campaign_id is not null;
create table tally_deltas (
  lane_id      uuid   not null,
  user_id      uuid   not null,
  campaign_id  uuid,
  what         text   not null,
  n            bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on table tallies is 'Folded counts of each lane: calls by public status, DIALS, and RETRIES (dials after a call''s first).';
comment on table tally_deltas is 'Counts not folded yet; appended by the statement that moved the calls.';
create view ops.tallies as
  select lane_id, user_id, campaign_id, what, sum(n)::bigint as n
  from (select * from public.tallies union all select * from public.tally_deltas) t
  group by lane_id, user_id, campaign_id, what;
comment on view ops.tallies is 'Calls by status, DIALS and RETRIES of each lane, exact at any moment.';
