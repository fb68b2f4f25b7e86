-- Where one dial at a time has to prove that the provider is back, each probe is another user's.
alter table user_turns add column probed_at timestamptz not null default '-infinity'
  constraint user_turns_probed_at_computable check (is_computable(probed_at) or probed_at = '-infinity');
comment on column user_turns.probed_at is 'When a call of this user was last the one that had to prove that the provider is back.';

-- An id of ours as somebody's external id would name two users.
alter table users add constraint users_external_id_is_no_uuid
  check (external_id !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$') not valid;

-- The ledger of dials: whom a user has had called, and when. Written by the claim, taken back when no phone rang.
create table dials (
  user_id   uuid not null,
  dialed_at timestamptz not null,
  call_id   uuid not null,
  phone     text not null,
  constraint dials_dialed_at_computable check (is_computable(dialed_at))
);
comment on table dials is 'Dials by user and number (its identity): what rules about how often somebody is called are read from.';
-- Not unique: a clock that stands still must not stop a claim. It holds all that the claim reads.
create index dials_of_number on dials (user_id, phone, dialed_at) include (call_id);
insert into dials (user_id, dialed_at, call_id, phone)
select user_id, claimed_at, call_id, phone from attempts
where id > ops.uuid_floor(clock() - interval '2 days') and claimed_at > clock() - interval '2 days' and (dialed or ended_at is null);

create function attempts_take_back_dial() returns trigger
language plpgsql
as $$
begin
  if new.dialed then
    -- It rang after all.
    insert into dials (user_id, dialed_at, call_id, phone) values (new.user_id, new.claimed_at, new.call_id, new.phone);
  else
    delete from dials where user_id = new.user_id and phone = new.phone and dialed_at = new.claimed_at and call_id = new.call_id;
  end if;
  return null;
end
$$;
comment on function attempts_take_back_dial() is 'An attempt that ended without a dial leaves the ledger.';
create trigger attempts_take_back_dial
  after update of state, dialed on attempts
  for each row
  when (new.ended_at is not null and (not new.dialed or (old.ended_at is not null and not old.dialed)))
  execute function attempts_take_back_dial();

create table test_numbers (
  phone      text not null,
  created_at timestamptz not null default clock(),
  note       text,
  constraint test_numbers_created_at_computable check (is_computable(created_at)),
  constraint test_numbers_pkey primary key (phone),
  constraint test_numbers_phone_e164 check (phone ~ '^\+[1-9][0-9]{6,14}$'),
  constraint test_numbers_note_length check (char_length(note) <= 255)
);
comment on table test_numbers is 'Numbers of people who test: they may be called as often as somebody likes. An admin lists them.';

create function capped_until("user" uuid, number text, call uuid, rank smallint, at timestamptz, per_day int, gap_secs float8) returns timestamptz
language sql stable
as $$
  select nullif(greatest(
    coalesce((select d.dialed_at + interval '24 hours' from dials d
      where per_day > 0 and d.phone = number and d.user_id = "user" and d.dialed_at > at - interval '24 hours'
      order by d.dialed_at desc offset greatest(per_day, 1) - 1 limit 1), '-infinity'),
    -- A call's own retries keep their delay, a callback the callee asked for keeps its time.
    coalesce((select d.dialed_at + make_interval(secs => gap_secs) from dials d
      where gap_secs > 0 and rank <> 0 and d.phone = number and d.user_id = "user"
        and d.dialed_at > at - make_interval(secs => gap_secs) and d.call_id <> call
      order by d.dialed_at desc limit 1), '-infinity')), '-infinity')
  where not exists (select from test_numbers t where t.phone = number)
$$;
comment on function capped_until(uuid, text, uuid, smallint, timestamptz, int, float8) is 'Until when a number has been dialed often enough, by the ledger; null: it may be dialed.';

alter table calls add column capped_until timestamptz constraint calls_capped_until_computable check (is_computable(capped_until));
comment on column calls.capped_until is 'Its due time was set by the rule on how often a number is dialed; without meaning where due_at is another by now.';
create index calls_capped on calls (lane_id, due_at) where capped_until = due_at;

do $$
declare
  f text;
begin
  f := pg_get_functiondef('calls_count_later'::regproc);
  f := replace(f, 'later_reason(old.rank)', 'case when old.capped_until = old.due_at then ''FREQUENCY_CAP'' else later_reason(old.rank) end');
  f := replace(f, 'later_reason(new.rank)', 'case when new.capped_until = new.due_at then ''FREQUENCY_CAP'' else later_reason(new.rank) end');
  execute f;
  f := pg_get_functiondef('later_from'::regproc);
  f := replace(f, '    ) c
  ) part', '    ) c
    union all
    select v.reason, v.n
    from calls c
    cross join lateral (values (''FREQUENCY_CAP'', 1), (later_reason(c.rank), -1)) as v(reason, n)
    where c.lane_id = lane and c.capped_until = c.due_at and c.due_at >= at and c.due_at < e.whole_at and c.state = ''waiting''
  ) part');
  if f not like '%FREQUENCY_CAP%' then
    raise exception 'later_from is not the function this migration knows';
  end if;
  execute f;
  f := pg_get_functiondef('ops.explain'::regproc);
  f := replace(f, '        (select min(c.due_at)
         from generate_series', '        case when t.reason = ''FREQUENCY_CAP'' then (
          select min(c.due_at) from public.calls c
          where c.lane_id = j.lane_id and c.capped_until = c.due_at and c.due_at >= e.at and c.due_at < j.closes_at and c.state = ''waiting'')
        else (select min(c.due_at)
         from generate_series');
  f := replace(f, 'and c.due_at >= e.at and c.due_at < j.closes_at
           order by', 'and c.due_at >= e.at and c.due_at < j.closes_at
             and c.capped_until is distinct from c.due_at
           order by');
  f := replace(f, 'later_reason(r.rank::smallint) = t.reason) as clears_at', 'later_reason(r.rank::smallint) = t.reason) end as clears_at');
  if f not like '%FREQUENCY_CAP%' or f not like '%t.reason) end as clears_at%' then
    raise exception 'explain is not the function this migration knows';
  end if;
  execute f;
  f := pg_get_viewdef('ops.waiting'::regclass);
  execute 'create or replace view ops.waiting as ' || replace(f, 'ELSE later_reason(c.rank)', 'ELSE CASE WHEN c.capped_until = c.due_at THEN ''FREQUENCY_CAP'' ELSE later_reason(c.rank) END');
  f := pg_get_viewdef('ops.broken'::regclass);
  f := replace(f, 'later_reason(calls.rank) AS reason', 'CASE WHEN calls.capped_until = calls.due_at THEN ''FREQUENCY_CAP'' ELSE later_reason(calls.rank) END AS reason');
  f := replace(f, 'GROUP BY calls.lane_id, (later_reason(calls.rank)),', 'GROUP BY calls.lane_id, (CASE WHEN calls.capped_until = calls.due_at THEN ''FREQUENCY_CAP'' ELSE later_reason(calls.rank) END),');
  if pg_get_viewdef('ops.waiting'::regclass) not like '%FREQUENCY_CAP%' or f not like '%FREQUENCY_CAP%' then
    raise exception 'the views are not those this migration knows';
  end if;
  execute 'create or replace view ops.broken as ' || f;
end
$$;
