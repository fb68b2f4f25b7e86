-- Which numbers are in a campaign already, and by which call.
-- $1 campaign_id uuid   $2 phones text[]
-- Used by queue::recruit.
select c.phone, c.id from unnest($2::text[]) as p(phone)
cross join lateral (select id, phone from calls where campaign_id = $1 and phone = p.phone limit 1) c
