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
  constraint calls_due_at_before_10000 check (due_at < '10000-01-01 00:00:00+00'),
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

-- Which of a campaign's waiting calls are due changes with the clock and without a write, so no count by status can tell. Counted
-- are therefore those that enter for a later time and those that leave before it, by that time: what is later than now is a sum.
create function later_reason(rank smallint) returns text
language sql immutable parallel safe
as $$ select case rank when 2 then 'RETRY_LATER' else 'SCHEDULED_LATER' end $$;
comment on function later_reason(smallint) is 'What a call of this rank waits for while its time is to come: a retry''s delay, or the time it was asked for.';

create table later_tallies (
  lane_id    uuid        not null,
  span_secs  int         not null,
  starts_at  timestamptz not null,
  reason     text        not null,
  n          bigint      not null,
  constraint later_tallies_pkey primary key (lane_id, span_secs, starts_at, reason)
) with (fillfactor = 70);
create table later_deltas (
  lane_id  uuid        not null,
  due_at   timestamptz not null,
  reason   text        not null,
  n        int         not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
-- (Partial in form only, to be hidden from readers of a lane: see calls_by_user.)
create index later_tallies_past on later_tallies (span_secs, starts_at) where n is not null;
create index later_deltas_of_lane on later_deltas (lane_id);
comment on table later_tallies is
  'Folded counts of the waiting calls of campaigns by the second, minute, hour and day (UTC) they fall due in. True of spans to come '
  'alone: a call that falls due leaves nothing behind. It is taken for granted that the database''s clock does not go back.';
comment on table later_deltas is 'Counts not folded yet; appended for each call that enters for a later time or leaves before it.';

create view later_spans as
  select * from (values (1, 60), (60, 3600), (3600, 86400), (86400, null)) as s(secs, within_secs);
comment on view later_spans is 'The spans of later_tallies, each with the one it is a part of.';

create function span_start(at timestamptz, secs int) returns timestamptz
language sql immutable parallel safe
as $$ select date_bin(make_interval(secs => secs), at, 'epoch') $$;
comment on function span_start(timestamptz, int) is 'Start of the span that holds a time.';

create function span_start_from(at timestamptz, secs int) returns timestamptz
language sql stable parallel safe
as $$ select case when secs is null then 'infinity' else span_start(at + make_interval(secs => secs) - interval '1 microsecond', secs) end $$;
comment on function span_start_from(timestamptz, int) is 'Start of the first span that begins at a time or after it; of no span: infinity.';

create function calls_count_later() returns trigger
language plpgsql
as $$
begin
  if old.state = 'waiting' and old.due_at > clock() then
    insert into later_deltas (lane_id, due_at, reason, n) values (old.lane_id, old.due_at, later_reason(old.rank), -1);
  end if;
  if new.state = 'waiting' and new.due_at > clock() then
    insert into later_deltas (lane_id, due_at, reason, n) values (new.lane_id, new.due_at, later_reason(new.rank), 1);
  end if;
  return null;
end
$$;
comment on function calls_count_later() is
  'A call that enters or leaves at about its time may be counted or not: that time is past for every reader who sees it enter or leave.';
create trigger calls_count_later_new after insert on calls
  for each row when (new.campaign_id is not null and new.state = 'waiting' and new.due_at > clock())
  execute function calls_count_later();
create trigger calls_count_later after update of state, due_at, lane_id, rank on calls
  for each row when (
    new.campaign_id is not null
    and ((old.state = 'waiting' and old.due_at > clock()) or (new.state = 'waiting' and new.due_at > clock()))
    and (old.state, old.due_at, old.lane_id, old.rank) is distinct from (new.state, new.due_at, new.lane_id, new.rank)
  ) execute function calls_count_later();

create function later_from(lane uuid, at timestamptz) returns table (reason text, n numeric)
language sql stable parallel safe
as $$
  -- "offset 0" keeps each part a look-up of its own.
  select part.reason, sum(part.n)
  from (select span_start_from(at, 1) as whole_at offset 0) e
  cross join lateral (
    select t.reason, t.n
    from later_spans s
    cross join lateral (
      select span_start_from(at, s.secs) as first, span_start_from(at, s.within_secs) as last offset 0
    ) edge
    cross join lateral (
      select t.reason, t.n
      from later_tallies t
      where t.lane_id = lane and t.span_secs = s.secs and t.starts_at >= edge.first and t.starts_at < edge.last
      offset 0
    ) t
    union all
    select d.reason, d.n from later_deltas d where d.lane_id = lane and d.due_at >= e.whole_at
    union all
    -- What is left of the second it falls in.
    select later_reason(r.rank::smallint), c.n
    from generate_series(0, 4) as r(rank)
    cross join lateral (
      select count(*) as n from calls c
      where c.lane_id = lane and c.state = 'waiting' and c.rank = r.rank::smallint and c.due_at >= at and c.due_at < e.whole_at
    ) c
  ) part
  group by part.reason
  having sum(part.n) <> 0
$$;
comment on function later_from(uuid, timestamptz) is 'How many waiting calls of a campaign''s lane fall due at a time to come or after it, by reason.';
