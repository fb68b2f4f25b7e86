-- What the processes know of each other, of their provider, and of requests they have already answered.

create table instances (
  id           uuid        not null,
  started_at   timestamptz not null default clock(),
  lease_until  timestamptz not null,
  role         text        not null,
  host         text        not null,
  constraint instances_pkey primary key (id)
) with (fillfactor = 50);
comment on table instances is 'Running processes. One lease a process, renewed while it lives; the id is new at every start.';
comment on column instances.lease_until is 'Past it, attempts this process was dialing are in doubt.';

create table provider_holds (
  provider    text        not null,
  hold_until  timestamptz not null default '-infinity',
  reason      text,
  failures    int         not null default 0,
  constraint provider_holds_pkey primary key (provider),
  constraint provider_holds_reason_known check (reason in ('PROVIDER_CAPACITY', 'BREAKER_OPEN'))
);
comment on table provider_holds is 'No claim for this provider until hold_until: it said it is full, or could not be reached.';
comment on column provider_holds.failures is 'Requests in a row that never reached it; the hold doubles with each.';

create table provider_rates (
  provider    text        not null,
  tokens      float8      not null,
  counted_at  timestamptz not null,
  constraint provider_rates_pkey primary key (provider)
) with (fillfactor = 50);
comment on table provider_rates is 'Token buckets: dials a provider may be asked for at once, as of counted_at. Only the claim takes, under the admission lock.';

create table idempotency_keys (
  user_id      uuid        not null,
  key          text        not null,
  seed         uuid        not null,
  fingerprint  bytea       not null,
  started_at   timestamptz not null default clock(),
  status       smallint,
  body         bytea,
  constraint idempotency_keys_pkey primary key (user_id, key),
  constraint idempotency_keys_answer_whole check ((status is null) = (body is null))
);
comment on table idempotency_keys is 'Requests that create, by Idempotency-Key. Ids of what they create come from seed, so a repeat after a crash creates nothing twice.';
create index idempotency_keys_by_age on idempotency_keys (started_at);

create table api_keys (
  id            uuid        not null,
  user_id       uuid,
  created_at    timestamptz not null default clock(),
  last_used_at  timestamptz,
  name          text        not null,
  hash          bytea       not null,
  constraint api_keys_pkey primary key (id),
  constraint api_keys_hash_key unique (hash)
);
comment on table api_keys is 'Who may: only the SHA-256 of a key is kept. user_id null: an admin key.';

create table installation (
  only_row    boolean     not null default true,
  created_at  timestamptz not null default clock(),
  token_key   bytea       not null,
  constraint installation_pkey primary key (only_row),
  constraint installation_only_row check (only_row)
);
comment on table installation is 'The one row every process of this installation shares.';
comment on column installation.token_key is 'Key of the HMAC that makes the token in webhook URLs.';
