-- Put numbers onto a user's do-not-call list (the operator's: everybody's), and end the calls that wait for them; how many that were.
-- `by_status`: for a phone number's status. `asked`: by the callee, during a call.
-- Needs the admission lock, shared. Used by queue::do_not_call; called by turn.
create or replace function suppress_numbers("user" uuid, phones text[], reason text, by_status boolean, asked boolean) returns bigint
language plpgsql
as $$
#variable_conflict use_column
declare
  ended bigint;
begin
with listed as (
  -- Who is on it for another reason stays for that reason; one that weighs more takes its place.
  insert into suppressions as s (phone, user_id, reason, by_status, asked, canonical)
  select distinct identity_of(p.phone), $1::uuid, $3::text, $4::bool, $5::bool, true from unnest($2::text[]) as p(phone)
  on conflict (phone, user_id) do update set reason = excluded.reason, by_status = false, asked = excluded.asked
  where (s.by_status and not excluded.by_status) or (excluded.asked and not s.asked)
),
gone as (
  update calls
  set state = 'canceled', disposition = 'DO_NOT_CALL', ended_at = clock(), updated_at = clock()
  where state in ('waiting', 'parked') and id = any (array(
    select c.id
    from unnest($2::text[]) as p(phone)
    cross join lateral (
      select id from calls
      where phone = identity_of(p.phone) and state in ('waiting', 'parked')
        and (user_id = $1 or $1 = '00000000-0000-7000-8000-000000000001')
    ) c
  ))
  returning lane_id, user_id, campaign_id
),
tallied as (
  insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
  select lane_id, user_id, campaign_id, what, n * count(*)
  from gone
  cross join (values ('PENDING', -1), ('CANCELED', 1)) as v(what, n)
  group by lane_id, user_id, campaign_id, what, n
)
select count(*) into ended from gone;
  -- Calls of others may have been parked behind one that ended.
  perform bring_back($2);
  return ended;
end
$$;
