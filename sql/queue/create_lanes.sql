-- Create lanes of campaign $1, closed until their windows are written.
-- $1 campaign_id uuid   $2 ids uuid[]   $3 countries text[]   $4 zones text[]: names joined by a space   $5 destinations text[]
-- Needs the admission lock, exclusive. Used by queue::windows.
insert into lanes (id, user_id, campaign_id, country, zones, destination, paused, opens_at, closes_at, refresh_at, blocked_on)
select n.id, g.user_id, g.id, n.country, string_to_array(n.zones, ' '), n.destination, g.paused, '-infinity', 'epoch', '-infinity', 'window'
from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as n(id, country, zones, destination)
join campaigns g on g.id = $1
on conflict do nothing
