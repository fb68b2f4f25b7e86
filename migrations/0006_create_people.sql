-- Whom users want called, when, with what words, and for how many minutes.

alter table users add column clerk_id text;
comment on column users.clerk_id is 'The id at the platform''s sign-in service.';

create function wake_user("user" uuid) returns void
language sql
as $$
  update lanes set next_at = clock(), urgent_at = urgent_of(id), blocked_on = null where user_id = "user" and blocked_on in ('user', 'quota');
  update user_turns set next_at = clock(), blocked_on = null where user_id = "user";
$$;
comment on function wake_user(uuid) is 'Makes everything of a user deserve a look: what held it back has changed. Needs the admission lock.';

create table user_settings (
  user_id               uuid        not null,
  created_at            timestamptz not null default clock(),
  updated_at            timestamptz not null default clock(),
  opens                 time,
  closes                time,
  max_attempts          smallint    not null default 3,
  script_initial        text,
  script_follow_up      text,
  language              text,
  voice                 text,
  first_message         text,
  zone_policy           text,
  theme                 text,
  retry_rules           jsonb       not null default '{}',
  external_id           text,
  hours_external_id     text,
  script_external_id    text,
  agent_external_id     text,
  constraint user_settings_pkey primary key (user_id),
  constraint user_settings_user_fkey foreign key (user_id) references users (id) on delete cascade,
  constraint user_settings_external_id_key unique (external_id),
  constraint user_settings_hours_whole check ((opens is null) = (closes is null)),
  constraint user_settings_max_attempts_range check (max_attempts between 1 and 100),
  constraint user_settings_zone_policy_known check (zone_policy in ('user', 'hold'))
);
comment on table user_settings is 'How a user''s prospects and single calls are called: hours, scripts, the agent''s voice, retries.';
comment on column user_settings.opens is 'Daily hours on the user''s own clock; closes is exclusive, closes <= opens runs past midnight. Null: none set yet.';
comment on column user_settings.script_initial is 'For people nobody has spoken to yet; {prospectName} and other variables are filled in.';
comment on column user_settings.script_follow_up is 'For people spoken to before, and for promised times.';
comment on column user_settings.retry_rules is '{"BUSY":{"delaySeconds":60,"maxDials":2},…}: for calls outside campaigns; what is not there follows the general policy.';
comment on column user_settings.max_attempts is 'Dials in all for a prospect''s call.';
comment on column user_settings.external_id is 'Its id in the platform''s "Setting"; the ids of its parts follow.';

create table scripts (
  id                 uuid        not null,
  user_id            uuid        not null,
  created_at         timestamptz not null default clock(),
  updated_at         timestamptz not null default clock(),
  max_duration_secs  int,
  external_id        text        not null,
  prompt             text,
  agent_id           text,
  voice              text,
  language           text,
  first_message      text,
  tools              jsonb       not null default '[]',
  constraint scripts_pkey primary key (id),
  constraint scripts_user_fkey foreign key (user_id) references users (id) on delete cascade,
  constraint scripts_external_id_key unique (user_id, external_id),
  constraint scripts_prompt_or_agent check ((prompt is null) <> (agent_id is null)),
  constraint scripts_max_duration_positive check (max_duration_secs > 0)
);
comment on table scripts is 'What the agent is told: a prompt with voice and tools, or an agent kept at the provider. A call''s script_id names one by its external id or id.';
comment on column scripts.tools is 'Tools in the provider''s own shape, handed on as they are; the one that reports the outcome is added.';

create table plans (
  id             uuid          not null,
  created_at     timestamptz   not null default clock(),
  updated_at     timestamptz   not null default clock(),
  price          numeric(12,2) not null default 0,
  minutes        int           not null,
  duration_days  int           not null,
  per_day        int,
  name           text          not null,
  external_id    text,
  constraint plans_pkey primary key (id),
  constraint plans_external_id_key unique (external_id),
  constraint plans_price_not_negative check (price >= 0),
  constraint plans_minutes_not_negative check (minutes >= 0),
  constraint plans_duration_positive check (duration_days > 0),
  constraint plans_per_day_positive check (per_day > 0)
);
comment on table plans is 'What a subscription buys: minutes for a period of days, and dials a day.';
comment on column plans.per_day is 'Dials a day on the user''s clock; null: any number.';

create table subscriptions (
  user_id          uuid        not null,
  plan_id          uuid        not null,
  created_at       timestamptz not null default clock(),
  updated_at       timestamptz not null default clock(),
  period_ends_at   timestamptz not null,
  day_ends_at      timestamptz not null default '-infinity',
  minutes_left     int         not null,
  overage_minutes  int         not null default 0,
  day_dials        int         not null default 0,
  day              date,
  status           text        not null default 'ACTIVE',
  external_id      text,
  constraint subscriptions_pkey primary key (user_id),
  constraint subscriptions_user_fkey foreign key (user_id) references users (id) on delete cascade,
  constraint subscriptions_plan_fkey foreign key (plan_id) references plans (id),
  constraint subscriptions_external_id_key unique (external_id),
  constraint subscriptions_status_known check (status in ('ACTIVE', 'PAUSED', 'CANCELED')),
  constraint subscriptions_minutes_not_negative check (minutes_left >= 0),
  constraint subscriptions_overage_not_negative check (overage_minutes >= 0),
  constraint subscriptions_day_dials_not_negative check (day_dials >= 0)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on table subscriptions is 'The quota of a user who has one: every call of that user is held to it.';
comment on column subscriptions.minutes_left is 'The settled balance; what live calls have reserved is on their attempts. Never below zero.';
comment on column subscriptions.overage_minutes is 'Minutes talked beyond the balance, in this period.';
comment on column subscriptions.day is 'The date on the user''s clock that day_dials counts; the scheduler turns it at day_ends_at. Past that: closed until it has.';
create index subscriptions_period on subscriptions (period_ends_at) where status = 'ACTIVE';
create index subscriptions_day on subscriptions (day_ends_at) where status = 'ACTIVE';

alter table attempts
  add column reserved_minutes int,
  add column charged_minutes int,
  add column counted_on date,
  add constraint attempts_reserved_positive check (reserved_minutes > 0),
  add constraint attempts_charged_not_negative check (charged_minutes >= 0);
comment on column attempts.reserved_minutes is 'Minutes of the subscription held for it while it is open, and the longest it may talk; null: no subscription.';
comment on column attempts.charged_minutes is 'Minutes taken for it: its length in begun minutes.';
comment on column attempts.counted_on is 'The day of the subscription it was counted in; null: in none, or it turned out to be no dial.';
create index attempts_reserved on attempts (user_id) where ended_at is null and reserved_minutes is not null;

alter table installation add column reserve_minutes int not null default 10;
comment on column installation.reserve_minutes is 'Minutes reserved for a call of a metered user, as the newest process was told.';

-- What a metered user may still dial.
create view quotas as
  select
    q.user_id, q.day, q.day_ends_at, q.reserve, q.minutes, q.reason,
    case when q.reason is not null then 0
         else least((q.minutes + q.reserve - 1) / q.reserve, q.day_left, 2147483647) end as calls
  from (
    select
      s.user_id, s.day, s.day_ends_at, r.reserve, m.minutes, d.day_left,
      case
        when s.status <> 'ACTIVE' then 'SUBSCRIPTION_INACTIVE'
        when m.minutes <= 0 or s.period_ends_at <= clock() then 'QUOTA_MINUTES'
        when d.day_left <= 0 or (p.per_day is not null and s.day_ends_at <= clock()) then 'QUOTA_PER_DAY'
      end as reason
    from subscriptions s
    join plans p on p.id = s.plan_id
    cross join lateral (select coalesce((select reserve_minutes from installation), 10) as reserve) r
    cross join lateral (
      select s.minutes_left - coalesce(sum(a.reserved_minutes), 0)::int as minutes
      from attempts a
      where a.user_id = s.user_id and a.ended_at is null and a.reserved_minutes is not null
    ) m
    cross join lateral (select p.per_day - s.day_dials as day_left) d
  ) q;
comment on view quotas is 'What each metered user may still dial: calls, each reserving so many minutes; reason: why none.';

-- An attempt of a metered user ends, or turns out to have lasted differently: its minutes are taken, once and exactly, by whatever
-- statement ends it.
create function attempts_settle_minutes() returns trigger
language plpgsql
as $$
declare
  minutes int := case when new.dialed then ceil(coalesce(new.duration_secs, 0) / 60.0)::int else 0 end;
  more    int := minutes - coalesce(new.charged_minutes, 0);
begin
  if new.charged_minutes is distinct from minutes then
    update attempts set charged_minutes = minutes, counted_on = case when new.dialed then counted_on end where id = new.id;
    update subscriptions
    set
      minutes_left = minutes_left - least(minutes_left, greatest(more, 0)) + greatest(0, -more - overage_minutes),
      overage_minutes = greatest(0, overage_minutes + more - case when more > 0 then least(minutes_left, more) else 0 end),
      day_dials = day_dials - case when not new.dialed and new.counted_on = day then 1 else 0 end
    where user_id = new.user_id;
  end if;
  if old.ended_at is null then
    perform wake_user(new.user_id);
  end if;
  return null;
end
$$;
comment on function attempts_settle_minutes() is 'Takes the minutes of an ended attempt, gives back its day where it was no dial, and wakes what waited for them.';
create trigger attempts_settle_minutes after update of state, duration_secs, dialed on attempts
  for each row when (new.reserved_minutes is not null and new.ended_at is not null)
  execute function attempts_settle_minutes();

-- A changed subscription or plan wakes what it held back. Whoever writes takes the admission lock first.
create function take_admission_lock() returns trigger
language plpgsql
as $$
begin
  -- Deeper down, the statement that set this off holds it; nobody goes from shared to exclusive.
  if pg_trigger_depth() = 1 then
    perform pg_advisory_xact_lock(7001);
  end if;
  return null;
end
$$;
comment on function take_admission_lock() is 'For statements that move calls by a trigger: the lock comes before any row, and nobody else feeds the queue meanwhile.';
create function subscriptions_wake() returns trigger
language plpgsql
as $$
begin
  perform wake_user(new.user_id);
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  return null;
end
$$;
create trigger subscriptions_lock before insert or update of status, plan_id, minutes_left, period_ends_at, day_ends_at or delete on subscriptions
  for each statement execute function take_admission_lock();
create trigger subscriptions_wake after insert or update of status, plan_id, period_ends_at, day_ends_at on subscriptions
  for each row execute function subscriptions_wake();
create function subscriptions_let_go() returns trigger
language plpgsql
as $$
begin
  perform wake_user(old.user_id);
  return null;
end
$$;
create trigger subscriptions_let_go after delete on subscriptions for each row execute function subscriptions_let_go();
create function plans_wake() returns trigger
language plpgsql
as $$
begin
  perform wake_user(s.user_id) from subscriptions s where s.plan_id = new.id;
  return null;
end
$$;
comment on function plans_wake() is 'A plan that changes is looked at anew by everybody who subscribes to it.';
create index subscriptions_by_plan on subscriptions (plan_id);
create trigger plans_lock before update on plans for each statement execute function take_admission_lock();
create trigger plans_wake after update on plans for each row execute function plans_wake();

create table prospects (
  id                 uuid        not null,
  user_id            uuid        not null,
  call_id            uuid,
  created_at         timestamptz not null default clock(),
  updated_at         timestamptz not null default clock(),
  deleted_at         timestamptz,
  last_contacted_at  timestamptz,
  reached_at         timestamptz,
  rescheduled_for    timestamptz,
  reschedules        int         not null default 0,
  name               text,
  phone              text        not null,
  status             text        not null default 'INITIAL',
  refused_at         timestamptz,
  disposition        text,
  time_zone          text,
  external_id        text,
  variables          jsonb       not null default '{}',
  constraint prospects_pkey primary key (id),
  constraint prospects_user_fkey foreign key (user_id) references users (id),
  constraint prospects_external_id_key unique (user_id, external_id),
  constraint prospects_phone_e164 check (phone ~ '^\+[1-9][0-9]{6,14}$'),
  constraint prospects_status_known check (status in ('INITIAL', 'RESCHEDULED', 'BOOKED', 'NOT_INTERESTED', 'DO_NOT_CALL', 'FAILED')),
  constraint prospects_reschedules_not_negative check (reschedules >= 0)
) with (fillfactor = 70);
comment on table prospects is 'People a user wants called. SCHEDULED and IN_CALL are seen in ops.prospects: they follow from the open call.';
comment on column prospects.call_id is 'The newest call to this person.';
comment on column prospects.reached_at is 'Somebody was spoken to: from then on the follow-up script is used.';
comment on column prospects.rescheduled_for is 'A promised time. The statement that writes it puts the call into the queue.';
comment on column prospects.disposition is 'How the newest call ended; null when a person has said since what is so.';
comment on column prospects.refused_at is 'The planner could not plan this one (a variable is missing, hours never meet): it comes after the others until it changes.';
create unique index prospects_phone_key on prospects (user_id, phone) where deleted_at is null;
create index prospects_to_plan on prospects (user_id, (status <> 'RESCHEDULED'), (refused_at is not null), (coalesce(last_contacted_at, '-infinity')), reschedules, created_at, id)
  where status in ('INITIAL', 'RESCHEDULED') and rescheduled_for is null and deleted_at is null;
create index prospects_list on prospects (user_id, id) where deleted_at is null;

alter table calls add column prospect_id uuid;
comment on column calls.prospect_id is 'The person it is for, where that is a prospect.';
create unique index calls_one_open_per_prospect on calls (prospect_id)
  where prospect_id is not null and state in ('waiting', 'parked', 'live');

create index calls_of_prospects on calls (user_id, due_at) where prospect_id is not null and state = 'waiting';

-- The lane for calls that plain SQL brings: which zones a number has is known to the service, which moves them on within a tick.
-- Until then they are not dialed.
create function unsorted_lane("user" uuid) returns uuid
language plpgsql
as $$
declare
  lane uuid;
begin
  select id into lane from lanes where user_id = "user" and campaign_id is null and country = '?' and zones = '{}';
  if lane is null then
    insert into lanes (id, user_id, country, opens_at, closes_at, blocked_on, closed_by)
    values (gen_random_uuid(), "user", '?', '-infinity', 'epoch', 'window', 'ZONE_UNKNOWN')
    on conflict do nothing;
    select id into lane from lanes where user_id = "user" and campaign_id is null and country = '?' and zones = '{}';
  end if;
  return lane;
end
$$;
comment on function unsorted_lane(uuid) is 'The lane of a user whose calls the service still has to place into the lanes of their zones. Closed.';
create index lanes_unsorted on lanes (id) where country = '?';

create function prospect_variables(p prospects) returns jsonb
language sql immutable
as $$ select case when p.name is null then p.variables else jsonb_build_object('prospectName', p.name) || p.variables end $$;
comment on function prospect_variables(prospects) is 'What scripts may name of a person.';

-- The waiting call of a prospect is to its number of today, with what is known of it today, at the time it was promised.
create function follow_prospect(p prospects) returns void
language plpgsql
as $$
declare
  c calls%rowtype;
  promised boolean := p.status = 'RESCHEDULED' and p.rescheduled_for is not null;
  verdict record;
begin
  select * into c from calls where prospect_id = p.id and state in ('waiting', 'parked', 'live') for update;
  if c.state = 'live' then
    -- Its end looks here again.
    return;
  end if;
  if c.id is null then
    if promised then
      select * into verdict from enqueue(
        array[uuid_v7()], array[p.user_id], array[unsorted_lane(p.user_id)], array[null]::uuid[], array[0]::smallint[],
        array[3]::smallint[], array[p.rescheduled_for], array[null]::timestamptz[], array[p.phone], array['prospect'],
        array[jsonb_build_object('prospectId', p.id)], array[prospect_variables(p)], array[null]::text[], array[p.time_zone], array[false],
        array[coalesce((select max_attempts from user_settings where user_id = p.user_id), 3)]::smallint[], array[false], array[p.id]);
      if verdict.suppressed then
        update prospects set status = 'DO_NOT_CALL', rescheduled_for = null, disposition = 'DO_NOT_CALL', updated_at = clock() where id = p.id;
      end if;
    end if;
    return;
  end if;
  if (c.phone, c.time_zone, c.variables) is distinct from (p.phone, p.time_zone, prospect_variables(p)) then
    -- Where the number rings is found out anew.
    update calls set state = 'waiting', phone = p.phone, time_zone = p.time_zone, variables = prospect_variables(p),
      lane_id = unsorted_lane(p.user_id), updated_at = clock()
    where id = c.id;
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    values (c.lane_id, c.user_id, null, 'PENDING', -1), (unsorted_lane(p.user_id), c.user_id, null, 'PENDING', 1);
  end if;
  if promised and (c.due_at <> p.rescheduled_for or c.rank <> 0) then
    update calls set state = 'waiting', due_at = p.rescheduled_for, rank = 0, updated_at = clock() where id = c.id;
    update lanes set next_at = least(next_at, p.rescheduled_for), urgent_at = least(urgent_at, p.rescheduled_for)
    where id = (select lane_id from calls where id = c.id) and blocked_on is null;
    update user_turns set next_at = least(next_at, p.rescheduled_for) where user_id = p.user_id and blocked_on is null;
  end if;
end
$$;
comment on function follow_prospect(prospects) is 'Enqueues a promised time, moves the waiting call to it, and keeps its number and variables those of the prospect.';

-- What becomes of a call is what becomes of its prospect, whatever statement moves it; but what a person has said meanwhile stands.
create function calls_tell_prospects() returns trigger
language plpgsql
as $$
declare
  p       prospects%rowtype;
  becomes text := case
    when new.disposition = 'DO_NOT_CALL' and new.state in ('completed', 'canceled') then 'DO_NOT_CALL'
    when new.disposition = 'APPOINTMENT_SET' and new.state = 'completed' then 'BOOKED'
    when new.disposition = 'NOT_INTERESTED' and new.state = 'completed' then 'NOT_INTERESTED'
    when new.disposition = 'CALLBACK_REQUESTED' and new.state in ('waiting', 'parked', 'completed') then 'RESCHEDULED'
    when new.state in ('completed', 'failed', 'expired', 'canceled') then 'FAILED'
  end;
  -- A promise that was made in this call, just now.
  promised boolean := new.disposition = 'CALLBACK_REQUESTED' and (
    (new.state = 'waiting' and new.due_at <> old.due_at) or (new.state = 'completed' and old.state = 'live'));
begin
  select * into p from prospects where id = new.prospect_id and call_id = new.id for update;
  if p.id is null then
    return null;
  end if;
  update prospects
  set
    last_contacted_at = case when new.dials > old.dials then clock() else last_contacted_at end,
    reached_at = case
      when new.dials > 0 and new.disposition in ('APPOINTMENT_SET', 'CALLBACK_REQUESTED', 'NOT_INTERESTED', 'DO_NOT_CALL', 'COMPLETED')
      then coalesce(reached_at, clock()) else reached_at end
  where id = p.id;
  if p.status = 'DO_NOT_CALL' then
    return null;
  end if;
  -- A correction corrects what this call had said; a live call moves a wish that is open, and no decision.
  if becomes is distinct from 'DO_NOT_CALL' and p.status not in ('INITIAL', 'RESCHEDULED')
    and not (old.state in ('completed', 'failed') and p.disposition is not distinct from old.disposition) then
    return null;
  end if;
  -- Somebody wrote another time while the call was on: that promise is kept.
  if becomes in ('FAILED', 'RESCHEDULED') and not promised and p.status = 'RESCHEDULED' and p.rescheduled_for > clock() then
    perform follow_prospect(p);
    return null;
  end if;
  update prospects
  set
    disposition = coalesce(new.disposition, disposition), status = coalesce(becomes, status),
    rescheduled_for = case when promised then case when new.state = 'waiting' then new.due_at end else rescheduled_for end,
    reschedules = reschedules + promised::int, updated_at = clock()
  where id = p.id
  returning * into p;
  if new.state = 'waiting' and old.state = 'live' then
    perform follow_prospect(p);
  end if;
  return null;
end
$$;
comment on function calls_tell_prospects() is 'A prospect follows its newest call: BOOKED, RESCHEDULED, NOT_INTERESTED, DO_NOT_CALL or FAILED.';
create trigger calls_tell_prospects after update of state, disposition, dials on calls
  for each row when (new.prospect_id is not null and ((new.state <> old.state and new.state <> 'live') or new.disposition is distinct from old.disposition or new.dials <> old.dials))
  execute function calls_tell_prospects();

-- A time is a promise.
create function prospects_name_promises() returns trigger
language plpgsql
as $$
begin
  if new.status = 'INITIAL' and new.rescheduled_for is not null then
    if tg_op = 'UPDATE' and new.rescheduled_for is not distinct from old.rescheduled_for then
      new.rescheduled_for := null;
    else
      new.status := 'RESCHEDULED';
    end if;
  end if;
  return new;
end
$$;
comment on function prospects_name_promises() is 'INITIAL with a new time is RESCHEDULED; back to INITIAL, the old time is gone.';
create trigger prospects_name_promises before insert or update of status, rescheduled_for on prospects
  for each row execute function prospects_name_promises();

-- A promise is kept by the statement that writes it: a prospect with a time has its call in the queue, first in its lane. A prospect
-- that must not or need not be called any more has none.
create function prospects_steer_calls() returns trigger
language plpgsql
as $$
declare
  c calls%rowtype;
begin
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  if new.deleted_at is null and new.status in ('INITIAL', 'RESCHEDULED') then
    perform follow_prospect(new);
    return null;
  end if;
  if new.status = 'DO_NOT_CALL' then
    insert into suppressions (phone, user_id, reason) values (new.phone, new.user_id, 'prospect') on conflict do nothing;
  end if;
  select * into c from calls where prospect_id = new.id and state in ('waiting', 'parked', 'live') for update;
  if c.state in ('waiting', 'parked') then
    update calls set state = 'canceled', ended_at = clock(), updated_at = clock(),
      disposition = case when new.status = 'DO_NOT_CALL' then 'DO_NOT_CALL' else 'CANCELED' end
    where id = c.id;
    insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
    values (c.lane_id, c.user_id, null, 'PENDING', -1), (c.lane_id, c.user_id, null, 'CANCELED', 1);
  elsif c.state = 'live' then
    -- As a cancel does: what is decided from now on knows of it.
    update calls set cancel_requested_at = coalesce(cancel_requested_at, clock()), updated_at = clock() where id = c.id;
    update attempts set hang_up_at = coalesce(hang_up_at, clock()), revision = revision + 1 where call_id = c.id and ended_at is null;
  end if;
  return null;
end
$$;
comment on function prospects_steer_calls() is 'Has the call of a prospect follow, or takes it out of the queue.';
create trigger prospects_lock before insert or update of status, rescheduled_for, phone, name, time_zone, variables, deleted_at or delete on prospects
  for each statement execute function take_admission_lock();
create trigger prospects_steer_calls_new after insert on prospects
  for each row execute function prospects_steer_calls();
create trigger prospects_steer_calls after update of status, rescheduled_for, phone, name, time_zone, variables, deleted_at on prospects
  for each row when ((old.status, old.rescheduled_for, old.phone, old.name, old.time_zone, old.variables, old.deleted_at) is distinct from
    (new.status, new.rescheduled_for, new.phone, new.name, new.time_zone, new.variables, new.deleted_at))
  execute function prospects_steer_calls();

create table appointments (
  id           uuid        not null,
  user_id      uuid        not null,
  attempt_id   uuid        not null,
  call_id      uuid        not null,
  prospect_id  uuid,
  created_at   timestamptz not null default clock(),
  starts_at    timestamptz,
  constraint appointments_pkey primary key (id),
  constraint appointments_attempt_key unique (attempt_id)
);
comment on table appointments is 'Appointments agreed in calls: one for an attempt, however often it is told.';
comment on column appointments.starts_at is 'As the agent told it; null: no time was told.';
create index appointments_by_user on appointments (user_id, id) where user_id is not null;
create function attempts_make_appointments() returns trigger
language plpgsql
as $$
begin
  insert into appointments (id, user_id, attempt_id, call_id, prospect_id, starts_at)
  select uuid_v7(), new.user_id, new.id, new.call_id, c.prospect_id, (new.told ->> 'appointmentTime')::timestamptz
  from calls c
  where c.id = new.call_id
  on conflict (attempt_id) do nothing;
  return null;
end
$$;
comment on function attempts_make_appointments() is 'An attempt that ends with an appointment makes it, in the same statement.';
create trigger attempts_make_appointments after update of disposition on attempts
  for each row when (new.disposition = 'APPOINTMENT_SET' and old.disposition is distinct from new.disposition)
  execute function attempts_make_appointments();

-- Whose turn it is to be planned, and what the last batch did.
create table planning (
  user_id     uuid        not null,
  planned_at  timestamptz not null default '-infinity',
  report      jsonb,
  constraint planning_pkey primary key (user_id),
  constraint planning_user_fkey foreign key (user_id) references users (id) on delete cascade
);
comment on table planning is 'The rotation of users whose prospects are planned: longest unplanned first.';
comment on column planning.report is 'What the last batch did for this user, or why it skipped them.';
create index planning_rotation on planning (planned_at, user_id);
create table planner (
  only_row  boolean     not null default true,
  next_at   timestamptz not null default '-infinity',
  constraint planner_pkey primary key (only_row),
  constraint planner_only_row check (only_row)
);
comment on table planner is 'When the next planning batch is due, over all processes.';
insert into planner default values;
create function user_settings_join_planning() returns trigger
language plpgsql
as $$
begin
  insert into planning (user_id) values (new.user_id) on conflict do nothing;
  return null;
end
$$;
create trigger user_settings_join_planning after insert on user_settings
  for each row execute function user_settings_join_planning();

-- Hours that change by plain SQL are put into force by the scheduler; until then the lanes concerned are closed, not wrong.
create function user_settings_reopen() returns trigger
language plpgsql
as $$
begin
  perform pg_advisory_xact_lock_shared(7001);
  update lanes set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
  where user_id = new.user_id and campaign_id is null and country not in ('?', '*');
  return null;
end
$$;
comment on function user_settings_reopen() is 'New hours of a user: its lanes are closed until their windows are written anew.';
create trigger user_settings_reopen after insert or update of opens, closes, zone_policy on user_settings
  for each row execute function user_settings_reopen();
create function users_reopen() returns trigger
language plpgsql
as $$
begin
  perform pg_advisory_xact_lock_shared(7001);
  update lanes set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
  where user_id = new.id and campaign_id is null and country not in ('?', '*')
    and exists (select from user_settings s where s.user_id = new.id and s.opens is not null);
  return null;
end
$$;
comment on function users_reopen() is 'A user whose zone changes: its lanes are closed until their windows are written anew.';
create trigger users_reopen after update of time_zone on users
  for each row when (old.time_zone is distinct from new.time_zone) execute function users_reopen();
