-- What plain SQL changes takes effect at the next look of the service, milliseconds after its commit: a session that stays open holds no
-- lock that others wait for. Until then its user's calls are not claimed, so that nobody is dialed against what was just written.
create table sql_changes (
  id           bigint generated always as identity,
  user_id      uuid not null,
  what         text not null,
  prospect_id  uuid,
  noted_at     timestamptz not null default clock(),
  constraint sql_changes_pkey primary key (id),
  constraint sql_changes_noted_at_computable check (is_computable(noted_at)),
  constraint sql_changes_what_known check (what in ('PROSPECT', 'WAKE', 'HOURS', 'DESTINATIONS', 'SUBSCRIPTION_ENDED')),
  constraint sql_changes_names_a_prospect check ((prospect_id is not null) = (what = 'PROSPECT'))
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index sql_changes_of_user on sql_changes (user_id, id);
comment on table sql_changes is
  'What plain SQL has changed and the service has not taken in yet. The user may be gone by now: no foreign key.';

create function is_service() returns boolean
language sql stable parallel safe
as $$ select coalesce(current_setting('outdial.service', true), '') = 'on' $$;
comment on function is_service() is 'Whether this is a connection of the service, which holds the admission lock when it changes what steers calls.';

create function note_change("user" uuid, what text, prospect uuid default null) returns void
language plpgsql
as $$
begin
  insert into sql_changes (user_id, what, prospect_id) values ("user", what, prospect);
  perform pg_notify('outdial', 'sql');
end
$$;
comment on function note_change(uuid, text, uuid) is 'Leaves a change by plain SQL for the service, and rings.';

create or replace function take_admission_lock() returns trigger
language plpgsql
as $$
begin
  -- Deeper down, the statement that set this off holds it; nobody goes from shared to exclusive. Plain SQL needs none: note_change.
  if pg_trigger_depth() = 1 and is_service() then
    perform admission_lock(false);
  end if;
  return null;
end
$$;

-- The views of the platform.
do $$
declare
  f text;
begin
  foreach f in array '{platform_write_plan,platform_write_prospect,platform_write_setting,platform_write_subscription}'::text[] loop
    execute replace(replace(pg_get_functiondef(f::regproc),
      'perform admission_lock(false);', 'if is_service() then perform admission_lock(false); end if;'),
      e'  -- Before any row: see take_admission_lock.\n', '');
  end loop;
end
$$;

-- Prospects.
create function steer_prospect(p prospects) returns void
language plpgsql
as $$
declare
  c calls%rowtype;
begin
  if p.deleted_at is null and p.status in ('INITIAL', 'RESCHEDULED') then
    perform follow_prospect(p);
    return;
  end if;
  select * into c from calls where prospect_id = p.id and state in ('waiting', 'parked', 'live') for update;
  if c.state in ('waiting', 'parked') then
    update calls set state = 'canceled', ended_at = clock(), updated_at = clock(),
      disposition = case when p.status = 'DO_NOT_CALL' then 'DO_NOT_CALL' else 'CANCELED' end
    where id = c.id;
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    values (c.lane_id, c.user_id, null, 'PENDING', -1), (c.lane_id, c.user_id, null, 'CANCELED', 1);
  elsif c.state = 'live' then
    -- As a cancel does: what is decided from now on knows of it.
    update calls set cancel_requested_at = coalesce(cancel_requested_at, clock()), updated_at = clock() where id = c.id;
    update attempts set hang_up_at = coalesce(hang_up_at, clock()), revision = revision + 1 where call_id = c.id and ended_at is null;
  end if;
end
$$;
comment on function steer_prospect(prospects) is 'Has the call of a prospect follow, or takes it out of the queue. Needs the admission lock, exclusive.';

create or replace function prospects_steer_calls() returns trigger
language plpgsql
as $$
begin
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  -- Everybody who dials looks there: it holds at once, whoever wrote it.
  if new.status = 'DO_NOT_CALL' and new.deleted_at is null then
    insert into suppressions (phone, user_id, reason) values (identity_of(new.phone), new.user_id, 'prospect') on conflict do nothing;
  end if;
  if is_service() then
    perform steer_prospect(new);
  elsif tg_op = 'UPDATE' or new.status <> 'INITIAL' then
    perform note_change(new.user_id, 'PROSPECT', new.id);
  end if;
  return null;
end
$$;
comment on function prospects_steer_calls() is 'What a person decided about a prospect reaches its call: at once, or, by plain SQL, at the next look of the service.';

-- Users.
create function reopen_single_lanes("user" uuid) returns void
language sql
as $$
  update lanes set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
  where user_id = "user" and campaign_id is null and country not in ('?', '*') and id <> '00000000-0000-7000-8000-000000000001'
    and ((select obeys_hours from installation) or exists (select from user_settings s where s.user_id = "user"))
$$;
comment on function reopen_single_lanes(uuid) is
  'New hours or another zone of a user: the lanes of its single calls are closed until their windows are written anew. Needs the admission lock.';

create function let_prospects_go("user" uuid) returns void
language plpgsql
as $$
declare
  unsorted uuid;
begin
  perform wake_user("user");
  if exists (select from subscriptions where user_id = "user")
    or not exists (select from calls where user_id = "user" and prospect_id is not null and state in ('waiting', 'parked')) then
    return;
  end if;
  unsorted := unsorted_lane("user");
  with moved as (
    update calls n
    set lane_id = unsorted, state = 'waiting', updated_at = clock()
    from calls c
    where n.user_id = "user" and n.prospect_id is not null and n.state in ('waiting', 'parked') and n.lane_id <> unsorted
      and c.id = n.id
    returning c.lane_id as was
  )
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select was, "user", null::uuid, 'PENDING', -count(*) from moved group by was
  union all
  select unsorted, "user", null, 'PENDING', count(*) from moved having count(*) > 0;
end
$$;
comment on function let_prospects_go(uuid) is 'Without a subscription the calls of a user''s prospects wait unsorted. Needs the admission lock, exclusive.';

create or replace function subscriptions_let_go() returns trigger
language plpgsql
as $$
begin
  if is_service() then
    perform let_prospects_go(old.user_id);
  else
    perform note_change(old.user_id, 'SUBSCRIPTION_ENDED');
  end if;
  return null;
end
$$;

create or replace function subscriptions_wake() returns trigger
language plpgsql
as $$
begin
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  if is_service() then
    perform wake_user(new.user_id);
  else
    perform note_change(new.user_id, 'WAKE');
  end if;
  return null;
end
$$;

create or replace function plans_wake() returns trigger
language plpgsql
as $$
begin
  if is_service() then
    perform wake_user(s.user_id) from subscriptions s where s.plan_id = new.id;
  else
    perform note_change(s.user_id, 'WAKE') from subscriptions s where s.plan_id = new.id;
  end if;
  return null;
end
$$;

create or replace function user_settings_reopen() returns trigger
language plpgsql
as $$
begin
  if is_service() then
    perform admission_lock(true);
    perform reopen_single_lanes(new.user_id);
  else
    perform note_change(new.user_id, 'HOURS');
  end if;
  return null;
end
$$;

create or replace function users_reopen() returns trigger
language plpgsql
as $$
begin
  if is_service() then
    perform admission_lock(true);
    perform reopen_single_lanes(new.id);
  else
    perform note_change(new.id, 'HOURS');
  end if;
  return null;
end
$$;

create or replace function users_reopen_destinations() returns trigger
language plpgsql
as $$
begin
  if is_service() then
    perform admission_lock(true);
    perform lanes_reopen(new.id);
  else
    perform note_change(new.id, 'DESTINATIONS');
  end if;
  return null;
end
$$;

create function take_in_changes("user" uuid, up_to integer) returns integer
language plpgsql
as $$
declare
  c record;
  taken integer := 0;
begin
  -- What somebody's session holds of this user is left for another time, and nobody waits for it.
  perform set_config('lock_timeout', '20ms', true);
  for c in
    with gone as (
      delete from sql_changes
      where id = any (array(select id from sql_changes where user_id = "user" order by id limit up_to))
      returning what, prospect_id
    )
    select what, prospect_id, count(*)::integer as n from gone group by what, prospect_id
  loop
    taken := taken + c.n;
    case c.what
      when 'PROSPECT' then perform steer_prospect(p) from prospects p where p.id = c.prospect_id;
      when 'WAKE' then perform wake_user("user");
      when 'HOURS' then perform reopen_single_lanes("user");
      when 'DESTINATIONS' then perform lanes_reopen("user");
      when 'SUBSCRIPTION_ENDED' then perform let_prospects_go("user");
    end case;
  end loop;
  return taken;
end
$$;
comment on function take_in_changes(uuid, integer) is
  'Has what plain SQL changed of a user take effect; how many changes that were. What steers a call reads the row as it is now. Needs the admission lock, exclusive.';

-- Calls.
create or replace function ops.enqueue(
  "to" text, script_id text, metadata jsonb default '{}', scheduled_at timestamptz default null, priority text default 'normal',
  expires_at timestamptz default null, "user" text default 'operator', external_id text default null, max_attempts integer default 3
) returns uuid
language plpgsql
as $$
#variable_conflict use_column
declare
  number   text := regexp_replace("to", '[[:space:]().-]', '', 'g');
  wanted   smallint := case priority when 'high' then 1 when 'normal' then 3 when 'low' then 4 end;
  owner    uuid := (select id from users where external_id = "user" or id::text = "user");
  new_id   uuid := uuid_v7();
  lane     uuid;
begin
  if number !~ '^\+[1-9][0-9]{6,14}$' then
    raise exception 'to: not an E.164 number, such as +14155550100' using errcode = '22023';
  elsif wanted is null then
    raise exception 'priority: high, normal or low' using errcode = '22023';
  elsif not public.is_computable(scheduled_at) then
    raise exception 'scheduled_at: not a time within the years 1900 to 9999' using errcode = '22023';
  elsif not public.is_computable(expires_at) then
    raise exception 'expires_at: not a time within the years 1900 to 9999' using errcode = '22023';
  elsif metadata is null or public.json_fault(metadata) is not null then
    raise exception 'metadata: %', coalesce(public.json_fault(metadata), 'is null') using errcode = '22023';
  elsif script_id is null or btrim(script_id) = '' or char_length(script_id) > 20000 then
    raise exception 'script_id: must have 1 to 20000 characters' using errcode = '22023';
  elsif btrim(external_id) = '' or char_length(external_id) > 255 then
    raise exception 'external_id: must have 1 to 255 characters' using errcode = '22023';
  elsif max_attempts is null or max_attempts not between 1 and 100 then
    raise exception 'max_attempts: must be 1 to 100' using errcode = '22023';
  elsif owner is null then
    raise exception 'user: no user with this id or external id' using errcode = '22023';
  elsif exists (select from public.suppressions s
                where s.phone = public.identity_of(number) and s.user_id in (owner, '00000000-0000-7000-8000-000000000001')) then
    raise exception 'to: the number is on a do-not-call list' using errcode = '22023';
  end if;
  lane := public.unsorted_lane(owner);
  insert into public.calls (
    id, user_id, lane_id, rank, priority, due_at, expires_at, phone, given, script_id, metadata, external_id, dials_max)
  values (
    new_id, owner, lane, wanted, wanted, coalesce(scheduled_at, clock()), expires_at,
    public.identity_of(number), nullif(number, public.identity_of(number)), script_id, metadata, external_id, max_attempts::smallint)
  on conflict do nothing;
  if not found then
    raise exception 'external_id: a call of this user has it already' using errcode = '23505';
  end if;
  insert into public.tally_deltas (lane_id, user_id, what, n) values (lane, owner, 'PENDING', 1);
  perform pg_notify('outdial', 'sql');
  return new_id;
end
$$;
comment on function ops.enqueue(text, text, jsonb, timestamptz, text, timestamptz, text, text, integer) is
  'The supported door for plain SQL: normalizes the number, leaves the call for the service to put into its lane, and rings. Takes no lock that others wait for.';

-- Every user has the lane that such calls wait in: made by a session that stays open, others of the same user would wait for it.
create or replace function users_get_a_lane() returns trigger
language plpgsql
as $$
begin
  insert into user_turns (user_id) values (new.id);
  insert into lanes (id, user_id) values (new.id, new.id);
  perform unsorted_lane(new.id);
  return null;
end
$$;
select unsorted_lane(id) from users;

-- What holds but for what has not been taken in; and what is left for the service for longer than it takes.
do $$
declare
  body text := rtrim(pg_get_viewdef('ops.broken'::regclass), ';');
  part text;
begin
  foreach part in array array[$a$(p.status = 'RESCHEDULED'::text)$a$, $a$(l.blocked_on = 'quota'::text)$a$] loop
    assert position(part in body) > 0, 'ops.broken is not what it was';
    body := replace(body, part,
      format('%s and not exists (select from sql_changes x where x.user_id = %s.user_id)', part, substr(part, 2, 1)));
  end loop;
  execute 'create or replace view ops.broken as ' || body || $view$
    union all
    select 'change by plain SQL that the service does not take in', user_id from sql_changes where noted_at < clock() - interval '5 minutes'$view$;
end
$$;
