-- Whether a new day (UTC) has begun since users with daily caps were woken.
-- Used by queue::quotas.
select exists (select from installation where caps_day is distinct from (clock() at time zone 'UTC')::date) as "over!"
