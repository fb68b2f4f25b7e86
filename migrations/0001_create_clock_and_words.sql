-- The one clock of the queue, and the closed vocabularies of calls and attempts.

create schema ops;
comment on schema ops is 'What operators may read and call: stable views and functions. Tables may change, these may not.';

-- now() is the start of the transaction and stands still while one waits for a lock; admission must see
-- the time of its own statement. Tests put a time into the setting outdial.now.
create function clock() returns timestamptz
language sql stable parallel safe
as $$ select coalesce(nullif(current_setting('outdial.now', true), '')::timestamptz, statement_timestamp()) $$;
comment on function clock() is 'The time every decision is made by: statement_timestamp(), unless the session sets outdial.now.';

create type call_state as enum ('waiting', 'parked', 'live', 'completed', 'failed', 'expired', 'canceled');
comment on type call_state is
  'waiting: in its lane. parked: due, but its number is on another call. live: has an open attempt. The rest are final.';

create type attempt_state as enum ('dialing', 'unknown', 'accepted', 'ended');
comment on type attempt_state is
  'dialing: committed, the provider is being asked. unknown: nobody knows whether the provider took it. accepted: the provider has it. ended: the slot is free.';

-- The public word for a state (API.md): one place, used by views, lists and counts.
create function public_status(state call_state) returns text
language sql immutable parallel safe
as $$
  select case state
    when 'waiting' then 'PENDING' when 'parked' then 'PENDING' when 'live' then 'IN_PROGRESS'
    when 'completed' then 'COMPLETED' when 'failed' then 'FAILED' when 'expired' then 'EXPIRED' when 'canceled' then 'CANCELED'
  end
$$;
comment on function public_status(call_state) is 'PENDING, IN_PROGRESS, COMPLETED, FAILED, EXPIRED or CANCELED.';

create function uuid_v7() returns uuid
language sql volatile
as $$
  select (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7' || substr(gen_random_uuid()::text, 16))::uuid
  from lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') as h
$$;
comment on function uuid_v7() is 'A new id that sorts by time, for rows that plain SQL makes.';
