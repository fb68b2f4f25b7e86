-- One turn of a worker, in one round trip and one transaction: settle what was decided, act on what that frees, and claim what is due.
-- Each step is a statement of its own, so that it sees what the one before has done; the time is taken when the lock is held.
-- The arrays up to record_in_secs as in settle_attempts; `refused`: attempts that found the provider full, which is held for `hold_secs`
-- and recovers over `recover_secs`; from `want` on as in claim_calls, 0 = claim nothing.
-- A row for each attempt that was settled (`ends` is not null), then those of claim_calls, which began `claims_after_secs` after this.
-- Used by queue::turn.
create or replace function turn(
  attempt_ids uuid[], revisions integer[], states text[], provider_call_ids text[], dialed boolean[], weights smallint[], dispositions text[],
  hangup_causes text[], durations integer[], told jsonb[], transcripts text[], misses smallint[], started boolean[],
  sent_secs_ago double precision[], check_in_secs double precision[], calls_were text[], calls_become text[],
  due_in_secs double precision[], due_ats timestamptz[], ranks smallint[], dials_maxes smallint[], event_attempt_ids uuid[],
  event_keys text[], event_types text[], event_sources text[], event_bodies jsonb[], carrier_call_ids text[], summaries text[],
  billed boolean[], record_in_secs double precision[],
  refused uuid[], hold_secs double precision, recover_secs double precision,
  want integer, global_limit integer, instance uuid, provider_name text, dial_guard_secs double precision, new_attempt_ids uuid[],
  lanes_max integer, lease_secs double precision, rate double precision, burst double precision, dials_per_day integer,
  gap_secs double precision
) returns table (
  ends boolean, since_claim_secs double precision, claims_after_secs double precision,
  at timestamptz, room integer, live bigint, held_until timestamptz, probing boolean, next_at timestamptz, lanes uuid[], users uuid[],
  obstructed boolean, attempt_id uuid, call_id uuid, attempt_number integer, dials smallint, dials_max smallint, priority smallint,
  rank smallint, retry_delay_secs integer, phone text, script_id text, metadata jsonb, variables jsonb, due_at timestamptz,
  reserved_minutes integer, prospect_id uuid, agent jsonb, retry_rules jsonb
)
language plpgsql
as $$
#variable_conflict use_column
declare
  began     constant timestamptz := clock_timestamp();
  now_is    timestamptz;
  s         record;
  settled   uuid[] := '{}';
  parked    text[] := '{}';
  freed     uuid[] := '{}';
  campaigns uuid[] := '{}';
  woken     uuid[] := '{}';
  woken_at  timestamptz[] := '{}';
  urgents   boolean[] := '{}';
begin
  perform admission_lock(false);
  now_is := wall_clock();
  if cardinality($1) > 0 or cardinality($22) > 0 then
    for s in
      select * from settle_attempts(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29,
        $30, now_is)
    loop
      if s.attempt_id is null then
        woken := woken || s.lane_id;
        woken_at := woken_at || s.waits_at;
        urgents := urgents || s.is_urgent;
        continue;
      end if;
      settled := settled || s.attempt_id;
      if s.parked_behind then
        parked := parked || s.phone;
      end if;
      if s.blocked_behind then
        freed := freed || s.user_id;
        campaigns := campaigns || s.campaign_id;
      end if;
      if s.disposition = 'DO_NOT_CALL' then
        -- Whoever asks not to be called is not called again by what waits already.
        perform suppress_numbers(s.user_id, array[s.phone], 'asked during a call', false, true);
      end if;
      ends := s.ends;
      since_claim_secs := s.since_claim_secs;
      attempt_id := s.attempt_id;
      call_id := s.call_id;
      return next;
    end loop;
    if cardinality(parked) > 0 then
      perform bring_back(parked);
    end if;
    if cardinality(freed) > 0 then
      perform free_slots(freed, campaigns);
    end if;
    if cardinality(woken) > 0 then
      perform wake_lanes(woken, woken_at, urgents);
    end if;
    if cardinality(refused) > 0 then
      -- Only those that were refused by what was written here.
      refused := array(select unnest(refused) intersect select unnest(settled));
      if cardinality(refused) > 0 then
        perform hold_provider(refused, hold_secs, recover_secs, global_limit);
      end if;
    end if;
  end if;
  if want > 0 then
    claims_after_secs := extract(epoch from clock_timestamp() - began);
    return query
    select null::boolean, null::double precision, claims_after_secs, c.*
    from claim_calls($34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, now_is) c;
  end if;
end
$$;
