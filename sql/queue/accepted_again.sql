-- A call of this attempt's user was accepted: its refusals in a row are over. Gives how many users have such rows still.
-- $1 provider text   $2 attempt_id uuid
-- Used by queue::accepted_again.
with over as (
  delete from provider_refusals where provider = $1 and user_id = (select user_id from attempts where id = $2) returning 1
)
select (select count(*) from provider_refusals where provider = $1) - (select count(*) from over) as "left!"
