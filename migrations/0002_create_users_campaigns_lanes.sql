-- Who owns calls, and the lanes in which calls wait. Hot tables carry no foreign keys: a key check is one more
-- query for each inserted row and a shared lock on the busiest parents; the service resolves ids before it inserts.

create table users (
  id                    uuid        not null,
  created_at            timestamptz not null default clock(),
  max_concurrent_calls  int,
  name                  text        not null,
  external_id           text,
  email                 text,
  constraint users_pkey primary key (id),
  constraint users_external_id_key unique (external_id),
  constraint users_email_key unique (email),
  constraint users_max_concurrent_calls_positive check (max_concurrent_calls > 0)
);
comment on table users is 'Tenants. Everything else belongs to one of them; calls of nobody in particular belong to the operator.';
comment on column users.max_concurrent_calls is 'Live calls this user may have at once; null: only the global limit counts.';
comment on column users.external_id is 'The id other systems know this user by.';

create table campaigns (
  id                    uuid        not null,
  user_id               uuid        not null,
  created_at            timestamptz not null default clock(),
  max_concurrent_calls  int         not null default 5,
  max_retries           int         not null default 3,
  retry_delay_secs      int         not null default 300,
  paused                boolean     not null default false,
  name                  text        not null,
  script_id             text        not null,
  external_id           text,
  constraint campaigns_pkey primary key (id),
  constraint campaigns_user_fkey foreign key (user_id) references users (id),
  constraint campaigns_external_id_key unique (user_id, external_id),
  constraint campaigns_max_concurrent_calls_positive check (max_concurrent_calls > 0),
  constraint campaigns_max_retries_range check (max_retries between 0 and 100),
  constraint campaigns_retry_delay_range check (retry_delay_secs between 0 and 31536000)
);
comment on table campaigns is 'A list of calls with one script, its own limits and retry rules.';
comment on column campaigns.max_retries is 'Dials after the first; max_dials of its calls is one more.';
comment on column campaigns.paused is 'Nothing of it is dialed; its lanes carry the same flag, so that the claim looks at lanes alone.';

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
  blocked_on   text,
  zones        text[]      not null default '{}',
  constraint lanes_pkey primary key (id),
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
comment on column lanes.zones is 'Candidate time zones of the people called; empty: none are needed.';
create unique index lanes_of_user_key on lanes (user_id, campaign_id, zones) nulls not distinct where zones is not null;
create index lanes_ring on lanes (user_id, next_at) where user_id is not null;
create index lanes_urgent on lanes (urgent_at) where urgent_at < 'infinity';
create index lanes_blocked on lanes (blocked_on, user_id, campaign_id) where blocked_on is not null;
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
  reason      text,
  constraint suppressions_pkey primary key (phone, user_id),
  constraint suppressions_phone_e164 check (phone ~ '^\+[1-9][0-9]{6,14}$')
);
comment on table suppressions is 'Numbers that must not be called (do-not-call), by a user or, under the operator, by anybody. The claim itself looks here.';
