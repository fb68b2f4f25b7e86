-- Delete a user that owns nothing but its own empty lane. The built-in operator stays.
-- $1 id uuid
-- Used by store::users::delete.
with gone as (
  delete from users u
  where u.id = $1 and u.id <> '00000000-0000-7000-8000-000000000001'
    and not exists (select from calls c where c.user_id = $1)
  returning id
),
lane as (
  delete from lanes where user_id in (select id from gone)
),
turn as (
  delete from user_turns where user_id in (select id from gone)
),
lists as (
  delete from suppressions where user_id in (select id from gone)
)
select id from gone
