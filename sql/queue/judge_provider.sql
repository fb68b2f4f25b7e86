-- Count answers and failures of the provider, and open or close its breaker.
-- $1 provider text   $2 answered int   $3 failed int   $4 window_secs float8   $5 failures_min int   $6 ratio float8
-- $7 open_secs float8   $8 open_secs_max float8
-- Used by queue::judge_provider. It opens on enough failures in a window, or on one while it is half open; each opening in a row holds
-- twice as long. An answer after the hold closes it.
insert into provider_states as p (provider, answered, failed) values ($1, $2, $3)
on conflict (provider) do update
set (counted_since, answered, failed, half_open, openings, hold_until, reason) = (
  select
    case when v.opens or v.closes or w.old then clock() else p.counted_since end,
    case when v.opens or v.closes then 0 else w.answered end,
    case when v.opens or v.closes then 0 else w.failed end,
    (p.half_open or v.opens) and not v.closes,
    case when v.opens then p.openings + 1 when v.closes then 0 else p.openings end,
    case when v.opens then greatest(p.hold_until, clock() + make_interval(secs => least($8, $7 * 2 ^ least(p.openings, 20)))) else p.hold_until end,
    case when v.opens then 'BREAKER_OPEN' else p.reason end
  from (
    select
      p.counted_since < clock() - make_interval(secs => $4) as old,
      excluded.answered + case when p.counted_since < clock() - make_interval(secs => $4) then 0 else p.answered end as answered,
      excluded.failed + case when p.counted_since < clock() - make_interval(secs => $4) then 0 else p.failed end as failed
  ) w
  cross join lateral (
    select
      -- What was asked before it opened and fails now is no news.
      excluded.failed > 0 and p.hold_until <= clock()
        and (p.half_open or (w.failed >= $5::int and w.failed >= $6::float8 * (w.failed + w.answered))) as opens,
      p.half_open and excluded.answered > 0 and excluded.failed = 0 and p.hold_until <= clock() as closes
  ) v
)
returning
  p.half_open and p.hold_until > clock() as "open!", p.half_open as "half_open!",
  case when p.hold_until > clock() then extract(epoch from p.hold_until - clock()) else 0 end::float8 as "held_secs!"
