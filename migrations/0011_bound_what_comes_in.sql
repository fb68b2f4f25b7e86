-- What statements from outside may write: JSON that can be read back, times that can be computed with, texts of bounded length.
-- The service checks the same before it writes (domain::raw_json, api); here is the last word, for ops.enqueue, the platform's views
-- and plain SQL alike. What is stored already and breaks the rule is set aside, each row alone.

create table dead_letters (
  id          uuid        not null default uuid_v7(),
  at          timestamptz not null default clock(),
  kind        text        not null,
  subject_id  uuid,
  user_id     uuid,
  reason      text        not null,
  detail      text,
  body        text,
  constraint dead_letters_pkey primary key (id),
  constraint dead_letters_kind_known check (kind in ('call', 'prospect', 'script', 'settings', 'schedule', 'event', 'upload_row'))
);
comment on table dead_letters is 'What could not be read or stored, set aside alone so that nothing else waits for it.';
comment on column dead_letters.subject_id is 'The call, prospect, …; of an event, its attempt.';
comment on column dead_letters.reason is 'UNREADABLE: it is not what it must be. REFUSED: Postgres would not take it.';
comment on column dead_letters.body is 'What it was, as text.';
create index dead_letters_by_age on dead_letters (at);
create view ops.dead_letters as
  select id, at, kind, subject_id, user_id, reason, detail, body from public.dead_letters;
comment on view ops.dead_letters is 'What could not be read or stored and was set aside: look at it, repair it where it came from, delete it.';

-- What a constraint asks of every row it sees, cheaply: a text of less than 64 bytes cannot be 32 deep. Nobody who carries a value
-- decodes it, so its numbers need no more than the bound on the text (1e9999 is written out).
-- 32 KiB as a client writes them are at most 64 KiB as Postgres does, which adds spaces.
create function json_is_bounded(value jsonb, wanted text default 'object') returns boolean
language sql immutable parallel safe
as $$
  select jsonb_typeof(value) = wanted
    and octet_length(value::text) <= case wanted when 'object' then 65536 else 262144 end
    and (octet_length(value::text) < 64
      or not jsonb_path_exists(value, '$.**{32 to last} ? (@.type() == "object" || @.type() == "array")'))
$$;
comment on function json_is_bounded(jsonb, text) is 'Whether JSON from outside can be kept: an object (or array), of bounded length and depth.';
create function json_fault(value jsonb, wanted text default 'object') returns text
language sql immutable parallel safe
as $$
  select case
    when jsonb_typeof(value) <> wanted then 'is no ' || wanted
    when octet_length(value::text) > case wanted when 'object' then 65536 else 262144 end then 'is too large'
    when not json_is_bounded(value, wanted) then 'is nested more than 32 deep'
    when jsonb_path_exists(value, 'strict $.** ? (@.type() == "number" && (@ >= 1e64 || @ <= -1e64))') then 'holds a number of more than 64 digits'
  end
$$;
comment on function json_fault(jsonb, text) is
  'Why JSON is refused at the door for plain SQL: not an object (or array), too large, too deep, a number too large; null: it is taken. The rule of domain::raw_json.';

create function is_computable(at timestamptz) returns boolean
language sql immutable parallel safe
as $$ select at >= '1900-01-01 00:00:00+00'::timestamptz and at < '10000-01-01 00:00:00+00'::timestamptz $$;
comment on function is_computable(timestamptz) is 'A time that every program can compute with: neither infinite nor beyond the years 1900 to 9999.';

-- What is wrong with a call. An external id alone is no reason not to dial.
create function pg_temp.call_fault(c calls) returns text
language sql
as $$
  select coalesce(
    'metadata ' || json_fault(c.metadata), 'variables ' || json_fault(c.variables),
    case when char_length(c.script_id) > 20000 then 'scriptId is longer than 20000 characters' end,
    case when char_length(c.time_zone) > 255 then 'timeZone is longer than 255 characters' end,
    case when char_length(c.external_id) > 255 then 'externalId is longer than 255 characters' end)
$$;

-- Calls that break a rule stop every claim, since a claim writes them: those that wait end here, and what they held is kept.
insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
select 'call', c.id, c.user_id, 'UNREADABLE', pg_temp.call_fault(c),
  jsonb_build_object('metadata', c.metadata, 'variables', c.variables, 'scriptId', c.script_id, 'timeZone', c.time_zone,
    'externalId', c.external_id)::text
from calls c
where pg_temp.call_fault(c) is not null;
with gone as (
  update calls c
  set
    metadata = case when json_fault(c.metadata) is null then c.metadata else '{}' end,
    variables = case when json_fault(c.variables) is null then c.variables else '{}' end,
    script_id = left(c.script_id, 20000),
    time_zone = case when char_length(c.time_zone) <= 255 then c.time_zone end,
    external_id = case when char_length(c.external_id) <= 255 then c.external_id else left(c.external_id, 220) || md5(c.external_id) end,
    state = case when was.ends then 'failed' else c.state end,
    disposition = case when was.ends then 'UNREADABLE' else c.disposition end,
    ended_at = case when was.ends then clock() else c.ended_at end,
    updated_at = clock()
  from (
    select id, state in ('waiting', 'parked') and pg_temp.call_fault(calls) not like 'externalId%' as ends
    from calls
    where pg_temp.call_fault(calls) is not null) was
  where c.id = was.id
  returning c.lane_id, c.user_id, c.campaign_id, was.ends
)
insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
select lane_id, user_id, campaign_id, v.what, sum(v.n)
from gone
cross join lateral (values ('PENDING', -1), ('FAILED', 1)) as v(what, n)
where ends
group by lane_id, user_id, campaign_id, v.what;

insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
select 'prospect', id, user_id, 'UNREADABLE', 'variables ' || json_fault(variables), variables::text from prospects where json_fault(variables) is not null;
update prospects set variables = '{}' where json_fault(variables) is not null;
insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
select 'script', id, user_id, 'UNREADABLE', 'tools ' || json_fault(tools, 'array'), tools::text from scripts where json_fault(tools, 'array') is not null;
update scripts set tools = '[]' where json_fault(tools, 'array') is not null;
insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
select 'settings', user_id, user_id, 'UNREADABLE', 'retry_rules ' || json_fault(retry_rules), retry_rules::text from user_settings where json_fault(retry_rules) is not null;
update user_settings set retry_rules = '{}' where json_fault(retry_rules) is not null;

alter table calls
  add constraint calls_metadata_readable check (json_is_bounded(metadata)),
  add constraint calls_variables_readable check (json_is_bounded(variables));
alter table prospects add constraint prospects_variables_readable check (json_is_bounded(variables));
alter table scripts add constraint scripts_tools_readable check (json_is_bounded(tools, 'array'));
alter table user_settings add constraint user_settings_retry_rules_readable check (json_is_bounded(retry_rules));
alter table schedules add constraint schedules_hours_readable check (json_is_bounded(hours, 'array')) not valid;
alter table legal_hours add constraint legal_hours_hours_readable check (json_is_bounded(hours, 'array')) not valid;

-- Every time that a statement from outside can write is finite. (Those of attempts, events, deliveries, counts, leases and rings are
-- written by the service alone, from the database's clock; tests/it/schema.rs names them.)
do $$
declare
  c record;
begin
  for c in
    select table_name as t, column_name as n
    from information_schema.columns
    where table_schema = 'public' and data_type = 'timestamp with time zone'
      and (table_name, column_name) in (
        ('calls', 'due_at'), ('calls', 'expires_at'),
        ('users', 'created_at'), ('users', 'updated_at'),
        ('user_settings', 'created_at'), ('user_settings', 'updated_at'),
        ('prospects', 'created_at'), ('prospects', 'updated_at'), ('prospects', 'deleted_at'), ('prospects', 'last_contacted_at'),
        ('prospects', 'reached_at'), ('prospects', 'rescheduled_for'), ('prospects', 'refused_at'),
        ('plans', 'created_at'), ('plans', 'updated_at'),
        ('subscriptions', 'created_at'), ('subscriptions', 'updated_at'), ('subscriptions', 'period_ends_at'),
        ('schedules', 'created_at'), ('schedules', 'updated_at'), ('legal_hours', 'created_at'), ('legal_hours', 'updated_at'),
        ('campaigns', 'created_at'), ('campaigns', 'updated_at'), ('campaigns', 'canceled_at'), ('campaigns', 'deleted_at'), ('campaigns', 'swept_at'),
        ('scripts', 'created_at'), ('scripts', 'updated_at'), ('suppressions', 'created_at'),
        ('phone_numbers', 'created_at'), ('phone_numbers', 'updated_at'),
        ('appointments', 'created_at'), ('appointments', 'starts_at'))
  loop
    execute format(
      'update %I set %I = least(greatest(%I, ''1900-01-01 00:00:00+00''), ''9999-12-31 00:00:00+00'') where not is_computable(%I)',
      c.t, c.n, c.n, c.n);
    execute format('alter table %I add constraint %I check (is_computable(%I))', c.t, c.t || '_' || c.n || '_computable', c.n);
  end loop;
end
$$;
alter table calls drop constraint calls_due_at_before_10000;

-- The rings hold times that are infinite by design: for ever, since ever. The claim reads the others.
update lanes set
  next_at = case when is_computable(next_at) then next_at when next_at < clock() then clock() else 'infinity' end,
  urgent_at = case when is_computable(urgent_at) then urgent_at when urgent_at < clock() then clock() else 'infinity' end
where not (is_computable(next_at) or next_at = 'infinity') or not (is_computable(urgent_at) or urgent_at = 'infinity');
update user_turns set next_at = case when next_at < clock() then clock() else 'infinity' end where not (is_computable(next_at) or next_at = 'infinity');
alter table lanes
  add constraint lanes_next_at_computable check (is_computable(next_at) or next_at = 'infinity'),
  add constraint lanes_urgent_at_computable check (is_computable(urgent_at) or urgent_at = 'infinity'),
  add constraint lanes_opens_at_computable check (is_computable(opens_at) or opens_at = '-infinity'),
  add constraint lanes_closes_at_computable check (is_computable(closes_at) or closes_at = 'infinity');
alter table user_turns add constraint user_turns_next_at_computable check (is_computable(next_at) or next_at = 'infinity');
update subscriptions set day_ends_at = '-infinity' where not (is_computable(day_ends_at) or day_ends_at = '-infinity');
update subscriptions set day = null where day < '1900-01-01' or day > '9999-12-31';
alter table subscriptions
  add constraint subscriptions_day_ends_at_computable check (is_computable(day_ends_at) or day_ends_at = '-infinity'),
  add constraint subscriptions_day_computable check (day between '1900-01-01' and '9999-12-31');
update schedules set closed_dates = array(select d from unnest(closed_dates) d where d between '1900-01-01' and '9999-12-31')
where not ('1900-01-01' <= all (closed_dates) and '9999-12-31' >= all (closed_dates));
alter table schedules
  add constraint schedules_closed_dates_computable check ('1900-01-01' <= all (closed_dates) and '9999-12-31' >= all (closed_dates));
update legal_hours set as_of = '1970-01-01' where as_of not between '1900-01-01' and '9999-12-31';
alter table legal_hours add constraint legal_hours_as_of_computable check (as_of between '1900-01-01' and '9999-12-31');
update user_settings set opens = '00:00' where opens = '24:00';
update user_settings set closes = '00:00' where closes = '24:00';
alter table user_settings add constraint user_settings_hours_before_24 check (opens < '24:00' and closes < '24:00');

-- Durations and amounts.
update plans set duration_days = least(duration_days, 3660), minutes = least(minutes, 100000000), per_day = least(per_day, 1000000)
where duration_days > 3660 or minutes > 100000000 or per_day > 1000000;
update plans set price = 0 where price = 'NaN';
alter table plans
  add constraint plans_duration_range check (duration_days <= 3660),
  add constraint plans_minutes_range check (minutes <= 100000000),
  add constraint plans_per_day_range check (per_day <= 1000000),
  add constraint plans_price_is_a_number check (price <> 'NaN');
update subscriptions set minutes_left = least(minutes_left, 100000000), overage_minutes = least(overage_minutes, 100000000)
where minutes_left > 100000000 or overage_minutes > 100000000;
alter table subscriptions
  add constraint subscriptions_minutes_range check (minutes_left <= 100000000),
  add constraint subscriptions_overage_range check (overage_minutes <= 100000000);
update scripts set max_duration_secs = least(max_duration_secs, 86400) where max_duration_secs > 86400;
alter table scripts add constraint scripts_max_duration_range check (max_duration_secs <= 86400);

-- Texts. Longer ones are cut, and kept as they were with the dead letters: a rule that is not met stops every later write of its row.
insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
select 'prospect', id, user_id, 'UNREADABLE', 'name, externalId or timeZone is longer than 255 characters',
  jsonb_build_object('name', name, 'externalId', external_id, 'timeZone', time_zone)::text
from prospects
where greatest(char_length(name), char_length(external_id), char_length(time_zone)) > 255;
update prospects
set name = left(name, 255), time_zone = case when char_length(time_zone) <= 255 then time_zone end,
  external_id = case when char_length(external_id) <= 255 then external_id else left(external_id, 220) || md5(external_id) end
where greatest(char_length(name), char_length(external_id), char_length(time_zone)) > 255;
insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
select 'settings', user_id, user_id, 'UNREADABLE', 'a prompt is longer than 20000 characters, or voice or language than 255',
  jsonb_build_object('scriptInitial', script_initial, 'scriptFollowUp', script_follow_up, 'firstMessage', first_message,
    'voice', voice, 'language', language)::text
from user_settings
where greatest(char_length(script_initial), char_length(script_follow_up), char_length(first_message)) > 20000
  or greatest(char_length(voice), char_length(language)) > 255;
update user_settings
set script_initial = left(script_initial, 20000), script_follow_up = left(script_follow_up, 20000),
  first_message = left(first_message, 20000), voice = left(voice, 255), language = left(language, 255)
where greatest(char_length(script_initial), char_length(script_follow_up), char_length(first_message)) > 20000
  or greatest(char_length(voice), char_length(language)) > 255;
update campaigns set script_id = left(script_id, 20000) where char_length(script_id) > 20000;
alter table calls
  add constraint calls_script_id_length check (char_length(script_id) <= 20000),
  add constraint calls_external_id_length check (char_length(external_id) <= 255),
  add constraint calls_time_zone_length check (char_length(time_zone) <= 255);
alter table prospects
  add constraint prospects_name_length check (char_length(name) <= 255),
  add constraint prospects_external_id_length check (char_length(external_id) <= 255),
  add constraint prospects_time_zone_length check (char_length(time_zone) <= 255);
alter table campaigns add constraint campaigns_script_id_length check (char_length(script_id) <= 20000);
alter table user_settings
  add constraint user_settings_texts_length check (
    char_length(script_initial) <= 20000 and char_length(script_follow_up) <= 20000 and char_length(first_message) <= 20000
    and char_length(voice) <= 255 and char_length(language) <= 255);

-- The door for plain SQL says what is wrong in the words of the REST door.
create or replace function ops.enqueue(
  "to" text, script_id text, metadata jsonb default '{}', scheduled_at timestamptz default null,
  priority text default 'normal', expires_at timestamptz default null, "user" text default 'operator',
  external_id text default null, max_attempts int default 3
) returns uuid
language plpgsql
as $$
#variable_conflict use_column
declare
  number   text := regexp_replace("to", '[[:space:]().-]', '', 'g');
  wanted   smallint := case priority when 'high' then 1 when 'normal' then 3 when 'low' then 4 end;
  owner    uuid := (select id from users where external_id = "user" or id::text = "user");
  new_id   uuid := uuid_v7();
  verdict  record;
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
  end if;
  select * into verdict from public.enqueue(
    array[new_id], array[owner],
    array[case when owner = '00000000-0000-7000-8000-000000000001' then owner else unsorted_lane(owner) end], array[null]::uuid[], array[wanted], array[wanted], array[scheduled_at],
    array[expires_at], array[number], array[script_id], array[metadata], array['{}']::jsonb[], array[external_id],
    array[null]::text[], array[false], array[max_attempts]::smallint[], array[false], array[null]::uuid[]);
  if verdict.suppressed then
    raise exception 'to: the number is on a do-not-call list' using errcode = '22023';
  elsif verdict.created_at is null then
    raise exception 'external_id: a call of this user has it already' using errcode = '23505';
  end if;
  perform pg_notify('outdial', '');
  return new_id;
end
$$;
