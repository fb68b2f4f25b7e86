-- Which numbers are in a campaign already, and by which call.
-- $1 campaign_id uuid   $2 phones text[]
-- Used by queue::recruit.
select p.phone as "phone!", c.id from unnest($2::text[]) as p(phone)
cross join lateral (select id, phone from calls where campaign_id = $1 and phone = identity_of(p.phone) limit 1) c
