-- The names by which the calling platform's own scripts know users, prospects and settings: updatable views over the real tables.
-- Unquoted column names of those scripts arrive in lower case; ids are the platform's own text.

create function id_of_user("user" text) returns uuid
language sql stable
as $$ select id from users where external_id = "user" or id::text = "user" $$;
comment on function id_of_user(text) is 'The user with this id, or this id of the platform.';
create function known_user("user" text) returns uuid
language plpgsql stable
as $$
declare
  id uuid := id_of_user("user");
begin
  if id is null then
    raise exception 'userId: there is no user %', "user" using errcode = '23503';
  end if;
  return id;
end
$$;
comment on function known_user(text) is 'id_of_user, or an error that names the field.';

create view "User" as
  select coalesce(external_id, id::text) as id, name, email, clerk_id as clerkid, created_at as createdat, updated_at as updatedat
  from users;
comment on view "User" is 'Users, as the platform''s scripts write them.';
create function platform_write_user() returns trigger
language plpgsql
as $$
declare
  own uuid;
begin
  if tg_op = 'INSERT' then
    own := uuid_v7();
    insert into users (id, external_id, name, email, clerk_id, created_at, updated_at)
    values (own, new.id, coalesce(new.name, new.id), new.email, new.clerkid, coalesce(new.createdat, clock()), coalesce(new.updatedat, clock()));
    insert into planning (user_id) values (own) on conflict do nothing;
  elsif tg_op = 'UPDATE' then
    update users set name = new.name, email = new.email, clerk_id = new.clerkid, updated_at = clock() where id = known_user(old.id);
  else
    delete from users where id = known_user(old.id);
    return old;
  end if;
  return new;
end
$$;
create trigger platform_write_user instead of insert or update or delete on "User"
  for each row execute function platform_write_user();

create view "Prospect" as
  select
    coalesce(p.external_id, p.id::text) as id, p.name, p.phone, coalesce(u.external_id, u.id::text) as userid, p.status,
    p.last_contacted_at as lastcontacted, p.rescheduled_for as rescheduledfor
  from ops.prospects p
  join users u on u.id = p.user_id;
comment on view "Prospect" is 'Prospects, as the platform''s scripts write them; status as it is now.';
create function platform_write_prospect() returns trigger
language plpgsql
as $$
declare
  owner uuid;
  -- What follows from the open call is not a wish.
  wish  text := case when new.status in ('SCHEDULED', 'IN_CALL') then null else new.status end;
begin
  -- Before any row: see take_admission_lock.
  perform pg_advisory_xact_lock(7001);
  if tg_op = 'DELETE' then
    update prospects set deleted_at = clock(), external_id = null where deleted_at is null and user_id = known_user(old.userid) and (external_id = old.id or id::text = old.id);
    return old;
  end if;
  owner := known_user(new.userid);
  if tg_op = 'INSERT' then
    insert into prospects (id, user_id, external_id, name, phone, status, last_contacted_at, rescheduled_for)
    values (uuid_v7(), owner, new.id, new.name, regexp_replace(new.phone, '[[:space:]().-]', '', 'g'), coalesce(wish, 'INITIAL'),
            new.lastcontacted, new.rescheduledfor);
  else
    update prospects
    set name = new.name, phone = regexp_replace(new.phone, '[[:space:]().-]', '', 'g'), status = coalesce(wish, status),
      last_contacted_at = new.lastcontacted, rescheduled_for = new.rescheduledfor, updated_at = clock()
    where deleted_at is null and user_id = owner and (external_id = old.id or id::text = old.id);
  end if;
  return new;
end
$$;
create trigger platform_write_prospect instead of insert or update or delete on "Prospect"
  for each row execute function platform_write_prospect();

create view "Setting" as
  select coalesce(s.external_id, s.user_id::text) as id, coalesce(u.external_id, u.id::text) as userid, s.theme
  from user_settings s join users u on u.id = s.user_id;
comment on view "Setting" is 'Settings, as the platform''s scripts write them. A user made through it has one dial for each prospect.';
create view "AdvancedSetting" as
  select
    coalesce(s.hours_external_id, s.user_id::text) as id, coalesce(s.external_id, s.user_id::text) as settingid, u.time_zone as timezone,
    ('2000-01-01'::date + s.opens)::timestamp as startat, ('2000-01-01'::date + s.closes)::timestamp as endat
  from user_settings s join users u on u.id = s.user_id;
comment on view "AdvancedSetting" is 'Daily hours on the user''s clock; the date of startAt and endAt means nothing.';
create view "ScriptSetting" as
  select coalesce(script_external_id, user_id::text) as id, coalesce(external_id, user_id::text) as settingid, script_initial as initial, script_follow_up as followup
  from user_settings;
comment on view "ScriptSetting" is 'Scripts of first and later contacts.';
create view "AgentSetting" as
  select coalesce(agent_external_id, user_id::text) as id, coalesce(external_id, user_id::text) as settingid, language, voice, first_message as firstmessage
  from user_settings;
comment on view "AgentSetting" is 'The agent''s voice.';
create function user_of_setting(setting text) returns uuid
language plpgsql stable
as $$
declare
  owner uuid := (select user_id from user_settings where external_id = setting or user_id::text = setting);
begin
  if owner is null then
    raise exception 'settingId: there is no setting %', setting using errcode = '23503';
  end if;
  return owner;
end
$$;
comment on function user_of_setting(text) is 'Whose setting this is, or an error that names the field.';
create function platform_write_setting() returns trigger
language plpgsql
as $$
declare
  owner uuid;
begin
  if tg_op = 'DELETE' then
    if tg_table_name = 'Setting' then
      delete from user_settings where user_id = user_of_setting(old.id);
    end if;
    return old;
  end if;
  if tg_table_name = 'Setting' then
    insert into user_settings as s (user_id, external_id, theme, max_attempts) values (known_user(new.userid), new.id, new.theme, 1)
    on conflict (user_id) do update set external_id = excluded.external_id, theme = excluded.theme, updated_at = clock();
    return new;
  end if;
  owner := user_of_setting(new.settingid);
  if tg_table_name = 'AdvancedSetting' then
    if not exists (select from pg_timezone_names where name = new.timezone) then
      raise exception 'timeZone: there is no time zone %', new.timezone using errcode = '22023';
    end if;
    perform pg_advisory_xact_lock(7001);
    update users set time_zone = new.timezone, updated_at = clock() where id = owner;
    update user_settings set hours_external_id = new.id, opens = new.startat::time, closes = new.endat::time, updated_at = clock() where user_id = owner;
  elsif tg_table_name = 'ScriptSetting' then
    update user_settings set script_external_id = new.id, script_initial = new.initial, script_follow_up = new.followup, updated_at = clock() where user_id = owner;
  else
    update user_settings set agent_external_id = new.id, language = new.language, voice = new.voice, first_message = new.firstmessage, updated_at = clock() where user_id = owner;
  end if;
  return new;
end
$$;
create trigger platform_write_setting instead of insert or update or delete on "Setting" for each row execute function platform_write_setting();
create trigger platform_write_setting instead of insert or update or delete on "AdvancedSetting" for each row execute function platform_write_setting();
create trigger platform_write_setting instead of insert or update or delete on "ScriptSetting" for each row execute function platform_write_setting();
create trigger platform_write_setting instead of insert or update or delete on "AgentSetting" for each row execute function platform_write_setting();

create view "Plan" as
  select coalesce(external_id, id::text) as id, name, price, minutes, duration_days as duration, per_day as perday from plans;
comment on view "Plan" is 'Plans, as the platform''s scripts write them; duration in days.';
create view "Subscription" as
  select
    coalesce(s.external_id, s.user_id::text) as id, coalesce(u.external_id, u.id::text) as userid, coalesce(p.external_id, p.id::text) as planid,
    s.minutes_left as minutesleft, s.status
  from subscriptions s
  join users u on u.id = s.user_id
  join plans p on p.id = s.plan_id;
comment on view "Subscription" is 'Subscriptions, as the platform''s scripts write them.';
create function platform_write_plan() returns trigger
language plpgsql
as $$
begin
  perform pg_advisory_xact_lock(7001);
  if tg_op = 'INSERT' then
    insert into plans (id, external_id, name, price, minutes, duration_days, per_day)
    values (uuid_v7(), new.id, new.name, coalesce(new.price, 0), new.minutes, new.duration, new.perday);
  elsif tg_op = 'UPDATE' then
    update plans set name = new.name, price = new.price, minutes = new.minutes, duration_days = new.duration, per_day = new.perday, updated_at = clock()
    where external_id = old.id or id::text = old.id;
  else
    delete from plans where external_id = old.id or id::text = old.id;
    return old;
  end if;
  return new;
end
$$;
create trigger platform_write_plan instead of insert or update or delete on "Plan" for each row execute function platform_write_plan();
create function platform_write_subscription() returns trigger
language plpgsql
as $$
declare
  plan plans%rowtype;
begin
  perform pg_advisory_xact_lock(7001);
  if tg_op = 'DELETE' then
    delete from subscriptions where user_id = known_user(old.userid);
    return old;
  end if;
  select * into plan from plans where external_id = new.planid or id::text = new.planid;
  if plan.id is null then
    raise exception 'planId: there is no plan %', new.planid using errcode = '23503';
  end if;
  if tg_op = 'INSERT' then
    insert into subscriptions (user_id, plan_id, external_id, minutes_left, status, period_ends_at)
    values (known_user(new.userid), plan.id, new.id, coalesce(new.minutesleft, plan.minutes), coalesce(new.status, 'ACTIVE'),
            clock() + make_interval(days => plan.duration_days));
  else
    update subscriptions set plan_id = plan.id, minutes_left = new.minutesleft, status = new.status, updated_at = clock()
    where user_id = known_user(old.userid);
  end if;
  return new;
end
$$;
create trigger platform_write_subscription instead of insert or update or delete on "Subscription" for each row execute function platform_write_subscription();
