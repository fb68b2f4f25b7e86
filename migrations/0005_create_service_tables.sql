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

create table provider_states (
  provider       text        not null,
  hold_until     timestamptz not null default '-infinity',
  counted_since  timestamptz not null default clock(),
  ceiling_at     timestamptz,
  ceiling_until  timestamptz,
  ceiling        int,
  openings       int         not null default 0,
  answered       int         not null default 0,
  failed         int         not null default 0,
  half_open      boolean     not null default false,
  reason         text,
  constraint provider_states_pkey primary key (provider),
  constraint provider_states_reason_known check (reason in ('PROVIDER_CAPACITY', 'BREAKER_OPEN')),
  constraint provider_states_ceiling_whole check ((ceiling is null) = (ceiling_at is null) and (ceiling is null) = (ceiling_until is null)),
  constraint provider_states_ceiling_range check (ceiling >= 1 and ceiling_until > ceiling_at)
) with (fillfactor = 50);
comment on table provider_states is 'What all processes know of a provider: no claim until hold_until, the circuit breaker, and how many calls it takes at once.';
comment on column provider_states.reason is 'Why hold_until was set last: it said it is full, or the breaker opened.';
comment on column provider_states.half_open is 'The breaker has opened: once hold_until is past one dial at a time is let through, until one is answered.';
comment on column provider_states.openings is 'How often the breaker opened without an answer in between; the hold doubles with each.';
comment on column provider_states.answered is 'Dials answered, in whatever sense, since counted_since; failed: those that were not.';
comment on column provider_states.ceiling is 'Live calls it had when it last said it is full. The limit in force rises from there back to the global one by ceiling_until.';

-- The most live calls a provider is asked for now; null: what the settings say.
create function ceiling_of(p provider_states, global_limit int) returns int
language sql stable
as $$
  select case when p.ceiling < global_limit and p.ceiling_until > clock() then
    p.ceiling + floor((global_limit - p.ceiling) * extract(epoch from clock() - p.ceiling_at) / extract(epoch from p.ceiling_until - p.ceiling_at))::int
  end
$$;
comment on function ceiling_of(provider_states, int) is 'The learned limit of a provider: where it last refused, rising evenly to the global limit.';

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
