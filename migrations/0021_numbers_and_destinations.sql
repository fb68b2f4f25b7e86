-- One phone, one number: what is compared is a number's identity, what is dialed may differ from it.
create function identity_of(phone text) returns text
language sql immutable parallel safe
as $$ select case when phone ~ '^\+549[0-9]{10}$' then '+54' || substr(phone, 5) else phone end $$;
comment on function identity_of(text) is 'By what two numbers in canonical form are the same: Argentine mobiles are dialed with a 9 from abroad, which lists leave out. The rule of domain::phone.';

alter table calls add column given text;
comment on column calls.given is 'The number as it is dialed, where that is not its identity (phone); null: phone itself.';

-- Numbers that plain SQL brings in are compared as they are until the service has looked at them.
alter table suppressions add column canonical boolean not null default false;
comment on column suppressions.canonical is 'The service has seen to it that the number stands here in its canonical form.';
create index suppressions_uncanonical on suppressions (phone, user_id) where not canonical;

do $$
declare
  f text;
begin
  f := pg_get_functiondef('enqueue'::regproc);
  -- From here on its phones are identities.
  f := replace(f, '#variable_conflict use_column' || e'\n' || 'begin', '#variable_conflict use_column' || e'\n' || 'declare
  givens text[] := phones;
begin
  if array_to_string(phones, '' '') like ''%+549%'' then
    phones := array(select identity_of(p.phone) from unnest(phones) with ordinality as p(phone, nth) order by p.nth);
  end if;');
  f := replace(f, 'p.phone = i.phone and p.status', 'identity_of(p.phone) = i.phone and p.status');
  f := replace(f, 'time_zone, ignore_window, dials_max, prospect_id' || e'\n    )', 'time_zone, ignore_window, dials_max, prospect_id, given' || e'\n    )');
  f := replace(f, 'i.ignore_window, i.dials_max, i.prospect_id' || e'\n', 'i.ignore_window, i.dials_max, i.prospect_id, nullif(givens[i.nth], i.phone)' || e'\n');
  if f not like '%nullif(givens%' or f not like '%identity_of(p.phone) = i.phone%' or f not like '%prospect_id, given%' then
    raise exception 'enqueue is not the function this migration knows';
  end if;
  execute f;
  f := pg_get_functiondef('follow_prospect'::regproc);
  f := replace(f, '(c.phone, c.time_zone, c.variables) is distinct', '(coalesce(c.given, c.phone), c.time_zone, c.variables) is distinct');
  f := replace(f, 'phone = p.phone, time_zone', 'phone = identity_of(p.phone), given = nullif(p.phone, identity_of(p.phone)), time_zone');
  execute f;
  f := pg_get_functiondef('prospects_steer_calls'::regproc);
  f := replace(f, 'values (new.phone, new.user_id, ''prospect'')', 'values (identity_of(new.phone), new.user_id, ''prospect'')');
  execute f;
end
$$;

-- Where a number may be called is decided like when: by its lane. A lane's calls ring in one country, in one kind of destination.
alter table lanes add column destination text not null default 'ORDINARY';
alter table lanes add constraint lanes_destination_known
  check (destination in ('ORDINARY', 'PREMIUM', 'SHARED_COST', 'SATELLITE', 'UNASSIGNED', 'IMPOSSIBLE'));
comment on column lanes.destination is 'The kind of number of all its calls: domain::place::Destination.';
drop index lanes_of_user_key;
create unique index lanes_of_user_key on lanes (user_id, campaign_id, country, zones, destination) nulls not distinct where zones is not null;
alter table lanes drop constraint lanes_closed_by_known;
alter table lanes add constraint lanes_closed_by_known check (closed_by in (
  'WINDOW_CLOSED', 'CLOSED_DATE', 'LEGAL_HOURS', 'ZONE_UNKNOWN', 'WINDOW_NEVER_OPENS', 'DESTINATION_NOT_ALLOWED', 'INVALID_NUMBER'));

alter table users
  add column allowed_countries text[],
  add column allowed_destinations text[] not null default '{}',
  add constraint users_allowed_countries_are_codes check (array_to_string(allowed_countries, ' ', '-') ~ '^([A-Z]{2}|\*)?( ([A-Z]{2}|\*))*$'),
  add constraint users_allowed_destinations_known check (allowed_destinations <@ '{PREMIUM,SHARED_COST,SATELLITE,UNASSIGNED}'::text[]);
comment on column users.allowed_countries is 'Countries (ISO 3166) this user may have called, * for any; null: those of the installation. An admin decides.';
comment on column users.allowed_destinations is 'Kinds of numbers beside the ordinary that this user may have called. An admin decides.';

alter table installation
  add column obeys_hours boolean not null default false,
  add column obeys_destinations boolean not null default false,
  add column sorts_operator boolean not null default false,
  add column countries text[],
  add column placed_by integer not null default 0;
comment on column installation.obeys_hours is 'Single calls of users without hours of their own, the operator among them, keep to the legal hours.';
comment on column installation.obeys_destinations is 'Calls keep to the countries and kinds of numbers their user may have called.';
comment on column installation.sorts_operator is 'The operator''s single calls go into the lanes of their zones, like everybody''s.';
comment on column installation.countries is 'Where users without a list of their own may call; null: anywhere.';
comment on column installation.placed_by is 'By which edition of our rules what waits was put into its lanes (queue::windows::PLACED_BY).';
update installation set placed_by = 1 where not exists (select from calls where state in ('waiting', 'parked'));

create function lanes_reopen("user" uuid) returns void
language sql
as $$
  update lanes set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
  where ("user" is null or user_id = "user") and country <> '?' and id <> '00000000-0000-7000-8000-000000000001'
$$;
comment on function lanes_reopen(uuid) is 'Closes the lanes of a user (null: of all) until their windows are written anew: the rules have changed. Needs the admission lock.';

create function users_reopen_destinations() returns trigger
language plpgsql
as $$
begin
  perform admission_lock(true);
  perform lanes_reopen(new.id);
  return null;
end
$$;
create trigger users_reopen_destinations
  after update of allowed_countries, allowed_destinations on users
  for each row
  when ((old.allowed_countries, old.allowed_destinations) is distinct from (new.allowed_countries, new.allowed_destinations))
  execute function users_reopen_destinations();

-- A user without hours keeps to the law of the callee's zone, and that may depend on the user's own.
create or replace function users_reopen() returns trigger
language plpgsql
as $$
begin
  perform admission_lock(true);
  update lanes set closes_at = greatest(clock(), opens_at + interval '1 microsecond'), refresh_at = '-infinity'
  where user_id = new.id and campaign_id is null and country not in ('?', '*') and id <> '00000000-0000-7000-8000-000000000001'
    and ((select obeys_hours from installation) or exists (select from user_settings s where s.user_id = new.id and s.opens is not null));
  return null;
end
$$;

create function settle_rules(obeys_hours boolean, obeys_destinations boolean, sorts_operator boolean, countries text[]) returns void
language plpgsql
as $$
#variable_conflict use_variable
declare
  operator constant uuid := '00000000-0000-7000-8000-000000000001';
begin
  -- Most starts change nothing, and wait for nobody.
  if exists (select from installation i
             where (i.obeys_hours, i.obeys_destinations, i.sorts_operator, i.countries)
               is not distinct from (obeys_hours, obeys_destinations, sorts_operator, countries)) then
    return;
  end if;
  perform pg_advisory_xact_lock(7003);
  perform admission_lock(false);
  update installation i set obeys_hours = settle_rules.obeys_hours, obeys_destinations = settle_rules.obeys_destinations,
    sorts_operator = settle_rules.sorts_operator, countries = settle_rules.countries;
  perform lanes_reopen(null);
  if sorts_operator then
    update lanes set country = '?', zones = '{own}', opens_at = '-infinity', closes_at = 'epoch', refresh_at = 'infinity',
      blocked_on = 'window', closed_by = 'ZONE_UNKNOWN', next_at = 'infinity', urgent_at = 'infinity'
    where id = operator;
  else
    update lanes set country = '', zones = '{}', opens_at = '-infinity', closes_at = 'infinity', refresh_at = 'infinity',
      blocked_on = null, closed_by = null, next_at = clock(), urgent_at = urgent_of(id)
    where id = operator;
    update user_turns set next_at = least(next_at, clock()) where user_id = operator and blocked_on is null;
  end if;
end
$$;
comment on function settle_rules(boolean, boolean, boolean, text[]) is 'Puts the rules a process was started with in force: lanes are closed until their windows are written by them.';

-- No zone of anybody's.
delete from time_zones where name ~ '^(posix|right)/' or name in ('Factory', 'localtime');

do $$
declare
  v text := pg_get_viewdef('ops.lanes'::regclass);
begin
  v := replace(v, 'ARRAY[''ZONE_UNKNOWN''::text, ''WINDOW_NEVER_OPENS''::text]',
    'ARRAY[''ZONE_UNKNOWN''::text, ''WINDOW_NEVER_OPENS''::text, ''DESTINATION_NOT_ALLOWED''::text, ''INVALID_NUMBER''::text]');
  execute 'create or replace view ops.lanes as ' || v;
end
$$;
