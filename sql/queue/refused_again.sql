-- Count a refusal of a user's call that says nothing of the number, among equal ones in a row.
-- $1 provider text   $2 attempt_id uuid   $3 reason text
-- Used by queue::refused_again. A row of which nothing was heard for ten minutes has ended.
with own as (
  insert into provider_refusals as p (provider, user_id, n, reason)
  select $1, user_id, 1, $3 from attempts where id = $2
  on conflict (provider, user_id) do update
  set n = case when p.reason = excluded.reason and p.at > clock() - interval '10 minutes' then p.n + 1 else 1 end,
    reason = excluded.reason, at = clock()
  returning user_id, n
)
select
  o.user_id as "user_id!", o.n as "n!",
  exists (
    select from provider_refusals p
    where p.provider = $1 and p.user_id <> o.user_id and p.reason = $3 and p.at > clock() - interval '10 minutes') as "others!"
from own o
