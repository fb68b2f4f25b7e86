-- Who owns calls, and the lanes in which calls wait. Hot tables carry no foreign keys: a key check is one more
-- query for each inserted row and a shared lock on the busiest parents; the service resolves ids before it inserts.

create table users (
  id                    uuid        not null,
  created_at            timestamptz not null default clock(),
  max_concurrent_calls  int,
  updated_at            timestamptz not null default clock(),
  name                  text        not null,
  external_id           text,
  email                 text,
  time_zone             text,
  constraint users_pkey primary key (id),
  constraint users_external_id_key unique (external_id),
  constraint users_email_key unique (email),
  constraint users_max_concurrent_calls_positive check (max_concurrent_calls > 0)
);
comment on table users is 'Tenants. Everything else belongs to one of them; calls of nobody in particular belong to the operator.';
comment on column users.max_concurrent_calls is 'Live calls this user may have at once; null: only the global limit counts.';
comment on column users.external_id is 'The id other systems know this user by.';

comment on column users.time_zone is 'The zone that stands in for callees whose own is unknown, where the zone policy allows it.';

create table schedules (
  id            uuid        not null,
  user_id       uuid        not null,
  created_at    timestamptz not null default clock(),
  updated_at    timestamptz not null default clock(),
  name          text        not null,
  time_zone     text        not null,
  hours         jsonb       not null,
  closed_dates  date[]      not null default '{}',
  external_id   text,
  constraint schedules_pkey primary key (id),
  constraint schedules_user_fkey foreign key (user_id) references users (id),
  constraint schedules_external_id_key unique (user_id, external_id)
);
comment on table schedules is 'When campaigns may call, in local wall time.';
comment on column schedules.hours is '[{"days":["mon",…],"opens":"09:00","closes":"17:00"}]; closes is exclusive, closes <= opens runs past midnight.';

create table legal_hours (
  area        text        not null,
  created_at  timestamptz not null default clock(),
  updated_at  timestamptz not null default clock(),
  hours       jsonb       not null,
  source      text        not null,
  as_of       date        not null,
  constraint legal_hours_pkey primary key (area)
);
comment on table legal_hours is 'When the law lets people be called, on their own clock: the rule of the zone, else of the country, else of *.';
comment on column legal_hours.area is 'An IANA time zone, an ISO 3166 country, or * for everywhere else.';
insert into legal_hours (area, hours, source, as_of) values
  ('*', '[{"days":["mon","tue","wed","thu","fri","sat","sun"],"opens":"08:00","closes":"21:00"}]', '47 CFR 64.1200(c)(1), taken for everywhere', '2026-11-21');

create table campaigns (
  id                    uuid        not null,
  user_id               uuid        not null,
  schedule_id           uuid,
  created_at            timestamptz not null default clock(),
  updated_at            timestamptz not null default clock(),
  canceled_at           timestamptz,
  deleted_at            timestamptz,
  swept_at              timestamptz,
  max_concurrent_calls  int         not null default 5,
  max_retries           int         not null default 3,
  retry_delay_secs      int         not null default 300,
  paused                boolean     not null default false,
  name                  text        not null,
  script_id             text        not null,
  hours_in              text        not null default 'schedule',
  zone_policy           text,
  external_id           text,
  constraint campaigns_pkey primary key (id),
  constraint campaigns_schedule_fkey foreign key (schedule_id) references schedules (id),
  constraint campaigns_hours_in_known check (hours_in in ('schedule', 'callee')),
  constraint campaigns_zone_policy_known check (zone_policy in ('user', 'hold')),
  constraint campaigns_user_fkey foreign key (user_id) references users (id),
  constraint campaigns_external_id_key unique (user_id, external_id),
  constraint campaigns_max_concurrent_calls_positive check (max_concurrent_calls > 0),
  constraint campaigns_max_retries_range check (max_retries between 0 and 100),
  constraint campaigns_retry_delay_range check (retry_delay_secs between 0 and 31536000)
);
comment on table campaigns is 'A list of calls with one script, its own limits and retry rules.';
comment on column campaigns.max_retries is 'Dials after the first; max_dials of its calls is one more.';
comment on column campaigns.hours_in is 'Whose clock the schedule''s hours are read on.';
comment on column campaigns.zone_policy is 'A callee whose zone is unknown: user = the schedule''s or user''s zone stands in, hold = not dialed; null: as the provider wants it.';
comment on column campaigns.canceled_at is 'Canceled for good: its waiting calls are ended in the background.';
comment on column campaigns.paused is 'Nothing of it is dialed; its lanes carry the same flag, so that the claim looks at lanes alone.';

create index campaigns_by_user on campaigns (user_id, id) where user_id is not null;
comment on column campaigns.swept_at is 'Canceled, and nothing of it waits any more.';
create index campaigns_to_sweep on campaigns (id) where canceled_at is not null and swept_at is null;
create index campaigns_by_external_id on campaigns (external_id, user_id) where external_id is not null;
create index campaigns_by_schedule on campaigns (schedule_id) where schedule_id is not null;
create index schedules_by_user on schedules (user_id, id);
create index schedules_by_external_id on schedules (external_id, user_id) where external_id is not null;

-- The ring of lanes, one level down from the ring of users. next_at says when a lane deserves a look.
create table lanes (
  id           uuid        not null,
  user_id      uuid        not null,
  campaign_id  uuid,
  next_at      timestamptz not null default 'infinity',
  urgent_at    timestamptz not null default 'infinity',
  opens_at     timestamptz not null default '-infinity',
  closes_at    timestamptz not null default 'infinity',
  paused       boolean     not null default false,
  refresh_at   timestamptz not null default 'infinity',
  blocked_on   text,
  closed_by    text,
  country      text        not null default '',
  zones        text[]      not null default '{}',
  constraint lanes_pkey primary key (id),
  constraint lanes_closed_by_known check (closed_by in ('WINDOW_CLOSED', 'CLOSED_DATE', 'LEGAL_HOURS', 'ZONE_UNKNOWN', 'WINDOW_NEVER_OPENS')),
  constraint lanes_opens_before_it_closes check (opens_at < closes_at),
  constraint lanes_blocked_on_known check (blocked_on in ('pause', 'window', 'campaign', 'user', 'quota')),
  constraint lanes_blocked_sleeps check (blocked_on is null or (next_at = 'infinity' and urgent_at = 'infinity'))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on table lanes is 'Calls that may be dialed under the same rules: one campaign (or one user''s single calls) x one set of candidate zones.';
comment on column lanes.next_at is 'When this lane deserves a look; infinity: asleep. Never later than its first due call unless blocked_on says why.';
comment on column lanes.urgent_at is 'When its first call of rank 0 or 1 falls due; such lanes are read before the ring.';
comment on column lanes.opens_at is 'Start of the current or next calling window.';
comment on column lanes.closes_at is 'End of that window, exclusive. Past it the lane is closed until the scheduler writes the next: late means closed.';
comment on column lanes.blocked_on is 'Why it sleeps although calls may be due; whatever frees or raises that wakes it. Never a global or provider reason.';
comment on column lanes.refresh_at is 'When the scheduler writes the next window; never later than closes_at.';
comment on column lanes.closed_by is 'What keeps it closed until opens_at, or for good.';
comment on column lanes.country is 'ISO 3166 country of the people called, for its legal hours; empty: unknown.';
comment on column lanes.zones is 'Candidate time zones of the people called; empty: none are needed.';
create unique index lanes_of_user_key on lanes (user_id, campaign_id, country, zones) nulls not distinct where zones is not null;
create index lanes_ring on lanes (user_id, next_at) where user_id is not null;
create index lanes_urgent on lanes (urgent_at) where urgent_at < 'infinity';
create index lanes_blocked on lanes (blocked_on, user_id, campaign_id) where blocked_on is not null;
create index lanes_refresh on lanes (refresh_at) where refresh_at < 'infinity';
create index lanes_of_campaign on lanes (campaign_id) where campaign_id is not null;

create table user_turns (
  user_id     uuid        not null,
  next_at     timestamptz not null default 'infinity',
  blocked_on  text,
  constraint user_turns_pkey primary key (user_id),
  constraint user_turns_blocked_on_known check (blocked_on in ('user', 'quota')),
  constraint user_turns_blocked_sleeps check (blocked_on is null or next_at = 'infinity')
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on table user_turns is 'The ring of users: whose lanes are looked at next. Fairness is between users, not lanes.';
comment on column user_turns.next_at is 'Never later than the earliest next_at of the user''s lanes, unless blocked_on says why.';
create index user_turns_ring on user_turns (next_at) where next_at is not null;

-- A user always has a turn and a lane for single calls.
create function users_get_a_lane() returns trigger
language plpgsql
as $$
begin
  insert into user_turns (user_id) values (new.id);
  insert into lanes (id, user_id) values (new.id, new.id);
  return null;
end
$$;
comment on function users_get_a_lane() is 'Every user has a place in the ring and a lane for single calls, whose id is the user''s.';
create trigger users_get_a_lane after insert on users for each row execute function users_get_a_lane();

insert into users (id, name, external_id) values ('00000000-0000-7000-8000-000000000001', 'Operator', 'operator');

create table suppressions (
  phone       text        not null,
  user_id     uuid        not null,
  created_at  timestamptz not null default clock(),
  by_status   boolean     not null default false,
  reason      text,
  constraint suppressions_pkey primary key (phone, user_id),
  constraint suppressions_phone_e164 check (phone ~ '^\+[1-9][0-9]{6,14}$')
);
create index suppressions_by_user on suppressions (user_id, phone) where user_id is not null;
comment on column suppressions.by_status is 'It stands for a phone number''s status, and goes with it.';
comment on table suppressions is 'Numbers that must not be called (do-not-call), by a user or, under the operator, by anybody. The claim itself looks here.';

create table phone_numbers (
  id           uuid        not null,
  user_id      uuid        not null,
  created_at   timestamptz not null default clock(),
  updated_at   timestamptz not null default clock(),
  phone        text        not null,
  status       text        not null default 'valid',
  external_id  text,
  constraint phone_numbers_pkey primary key (id),
  constraint phone_numbers_user_fkey foreign key (user_id) references users (id),
  constraint phone_numbers_phone_key unique (user_id, phone),
  constraint phone_numbers_external_id_key unique (user_id, external_id),
  constraint phone_numbers_phone_e164 check (phone ~ '^\+[1-9][0-9]{6,14}$'),
  constraint phone_numbers_status_known check (status in ('valid', 'invalid', 'do_not_call'))
);
comment on table phone_numbers is 'What a user knows of numbers. do_not_call stands in suppressions too, where the claim looks; invalid numbers enter no campaign.';
create index phone_numbers_by_external_id on phone_numbers (external_id, user_id) where external_id is not null;
create index phone_numbers_list on phone_numbers (user_id, id) where user_id is not null;

create table uploads (
  id           uuid        not null,
  user_id      uuid        not null,
  campaign_id  uuid,
  created_at   timestamptz not null default clock(),
  finished_at  timestamptz,
  lease_until  timestamptz not null default '-infinity',
  status       text        not null default 'receiving',
  bytes        bigint      not null default 0,
  bytes_done   bigint      not null default 0,
  rows_done    bigint      not null default 0,
  accepted     bigint      not null default 0,
  rejected     bigint      not null default 0,
  takes        int         not null default 0,
  error        text,
  constraint uploads_pkey primary key (id),
  constraint uploads_status_known check (status in ('receiving', 'running', 'done', 'failed'))
) with (fillfactor = 50);
comment on table uploads is 'CSV lists of numbers: stored whole before they are answered, then read row by row in the background.';
comment on column uploads.campaign_id is 'The campaign the numbers are for; null: they are the user''s prospects.';
comment on column uploads.rows_done is 'Rows whose verdict is stored; a crash goes on behind them.';
comment on column uploads.takes is 'Readers that took it since the last verdict: a file that brings them down is given up.';
create index uploads_open on uploads (lease_until, id) where status = 'running';
create table upload_parts (
  upload_id  uuid   not null,
  nth        int    not null,
  body       bytea  not null,
  constraint upload_parts_pkey primary key (upload_id, nth)
);
comment on table upload_parts is 'The body of an upload as it came, in pieces; dropped when it is done.';
create table upload_verdicts (
  upload_id  uuid   not null,
  first_row  bigint not null,
  verdicts   text   not null,
  constraint upload_verdicts_pkey primary key (upload_id, first_row)
);
comment on table upload_verdicts is 'What became of each row, as lines of CSV, in pieces.';
