-- What a user may talk and spend in a day (UTC): decided by the claim, so that every call obeys, whatever road it came by.
alter table users
  add column daily_minutes_max integer,
  add column daily_cost_max numeric(14, 4),
  add constraint users_daily_minutes_max_range check (daily_minutes_max between 0 and 10000000),
  add constraint users_daily_cost_max_range check (daily_cost_max between 0 and 1000000000);
comment on column users.daily_minutes_max is 'Minutes this user''s calls may last in a day (UTC); null: any. An admin decides.';
comment on column users.daily_cost_max is 'What this user''s calls may cost in a day (UTC), by the table rates; null: anything. An admin decides.';
create index users_with_daily_caps on users (id) where daily_minutes_max is not null or daily_cost_max is not null;

create table rates (
  prefix      text not null,
  per_minute  numeric(12, 6) not null,
  constraint rates_pkey primary key (prefix),
  constraint rates_prefix_is_digits check (prefix ~ '^[0-9]{0,15}$'),
  constraint rates_per_minute_range check (per_minute between 0 and 100000)
);
comment on table rates is 'What a minute costs, by the first digits of the number without its +; the longest that fits counts, an empty one fits all. An admin loads it.';

create function price_of(phone text) returns numeric
language sql stable parallel safe
as $$
  select per_minute from rates
  where prefix = any (array(select substr(phone, 2, n) from generate_series(0, 15) n))
  order by length(prefix) desc
  limit 1
$$;
comment on function price_of(text) is 'What a minute to a number costs; null: the table says nothing.';

create table user_days (
  user_id  uuid not null,
  day      date not null,
  minutes  integer not null,
  cost     numeric(14, 4) not null,
  constraint user_days_pkey primary key (user_id, day),
  constraint user_days_day_computable check (day >= date '1900-01-01' and day <= date '9999-12-31'),
  constraint user_days_user_id_fkey foreign key (user_id) references users (id) on delete cascade
) with (fillfactor = 70);
comment on table user_days is 'What calls of users with daily caps took on a day (UTC); what live ones have reserved comes on top.';

alter table attempts
  add column spent_on date,
  add column minute_price numeric(12, 6);
comment on column attempts.spent_on is 'The day (UTC) its minutes count for, where its user has a daily cap.';
comment on column attempts.minute_price is 'What a minute of it costs, where its user has a cap of cost.';

alter table installation add column caps_day date;
comment on column installation.caps_day is 'The day (UTC) for which users with daily caps were woken.';

create function left_of_day("user" uuid, minutes_max integer, cost_max numeric, reserve integer)
returns table (minutes integer, budget numeric, spent_on date, reason text)
language plpgsql stable
as $$
#variable_conflict use_column
declare
  live record;
  day  user_days%rowtype;
begin
  spent_on := (clock() at time zone 'UTC')::date;
  select * into day from user_days d where d.user_id = "user" and d.day = left_of_day.spent_on;
  select coalesce(sum(a.reserved_minutes), 0)::integer as minutes, coalesce(sum(a.reserved_minutes * a.minute_price), 0) as cost into live
  from attempts a
  where a.user_id = "user" and a.ended_at is null and a.reserved_minutes is not null;
  minutes := minutes_max - coalesce(day.minutes, 0) - live.minutes;
  budget := cost_max - coalesce(day.cost, 0) - live.cost;
  reason := case
    when minutes <= 0 then 'DAILY_MINUTES'
    -- Not even the cheapest call.
    when budget <= 0 or budget < reserve * (select min(per_minute) from rates) then 'DAILY_COST'
  end;
  return next;
end
$$;
comment on function left_of_day(uuid, integer, numeric, integer) is
  'What a user with daily caps may still talk and spend today (UTC). No part of the view: the claim would pay for it whoever it looks at.';

-- Who is metered: by a subscription, by daily caps, or by both.
create or replace view quotas as
select
  q.user_id, q.day, q.day_ends_at, q.reserve, q.minutes, q.reason,
  case when q.reason is not null then 0 else least((q.minutes + q.reserve - 1) / q.reserve, q.day_left, 2147483647) end as calls,
  q.is_subscribed, q.budget, q.spent_on
from (
  select
    u.id as user_id, s.day, s.day_ends_at, r.reserve, least(m.minutes, c.minutes) as minutes, d.day_left,
    s.user_id is not null as is_subscribed, c.budget, c.spent_on,
    case
      when s.status <> 'ACTIVE' then 'SUBSCRIPTION_INACTIVE'
      when m.minutes <= 0 or s.period_ends_at <= clock() then 'QUOTA_MINUTES'
      when d.day_left <= 0 or (p.per_day is not null and s.day_ends_at <= clock()) then 'QUOTA_PER_DAY'
      else c.reason
    end as reason
  from users u
  left join subscriptions s on s.user_id = u.id
  left join plans p on p.id = s.plan_id
  cross join lateral (select coalesce((select reserve_minutes from installation), 10) as reserve) r
  left join lateral (
    select s.minutes_left - coalesce(sum(a.reserved_minutes), 0)::integer as minutes
    from attempts a
    where a.user_id = s.user_id and a.ended_at is null and a.reserved_minutes is not null
  ) m on true
  cross join lateral (select p.per_day - s.day_dials as day_left) d
  left join lateral (
    select * from left_of_day(u.id, u.daily_minutes_max, u.daily_cost_max, r.reserve)
    where u.daily_minutes_max is not null or u.daily_cost_max is not null
  ) c on true
  where s.user_id is not null or u.daily_minutes_max is not null or u.daily_cost_max is not null
) q;

create or replace function attempts_settle_minutes() returns trigger
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
    if new.spent_on is not null and more <> 0 then
      insert into user_days as d (user_id, day, minutes, cost)
      values (new.user_id, new.spent_on, more, more * coalesce(new.minute_price, 0))
      on conflict (user_id, day) do update set minutes = d.minutes + excluded.minutes, cost = d.cost + excluded.cost;
    end if;
  end if;
  if old.ended_at is null then
    perform wake_user(new.user_id);
  end if;
  return null;
end
$$;

-- What holds a lane.
do $$
declare
  body text := pg_get_viewdef('ops.lanes'::regclass);
  was  text := body;
begin
  body := replace(body, $a$ARRAY['SUBSCRIPTION_INACTIVE'::text, 'QUOTA_MINUTES'::text]$a$,
    $a$ARRAY['SUBSCRIPTION_INACTIVE'::text, 'QUOTA_MINUTES'::text, 'DAILY_MINUTES'::text, 'DAILY_COST'::text]$a$);
  assert body <> was, 'ops.lanes is not what it was';
  execute 'create or replace view ops.lanes as ' || body;
end
$$;

-- What was spent is what the attempts say.
do $$
begin
  execute 'create or replace view ops.broken as ' || rtrim(pg_get_viewdef('ops.broken'::regclass), ';') || e'\nunion all\n' || $view$
    select 'day of a user with daily caps is off', coalesce(d.user_id, a.user_id)
    from user_days d
    full join (
      select user_id, spent_on, sum(charged_minutes) as minutes from attempts where spent_on is not null group by user_id, spent_on
    ) a on a.user_id = d.user_id and a.spent_on = d.day
    where coalesce(d.minutes, 0) <> coalesce(a.minutes, 0)$view$;
end
$$;
