-- Create lanes for single calls of user $1, closed until their windows are written.
-- $1 user_id uuid   $2 ids uuid[]   $3 countries text[]   $4 zones text[]: names joined by a space   $5 destinations text[]
-- Needs the admission lock, exclusive. Used by queue::windows.
insert into lanes (id, user_id, country, zones, destination, opens_at, closes_at, refresh_at, blocked_on)
select n.id, $1, n.country, string_to_array(n.zones, ' '), n.destination, '-infinity', 'epoch', '-infinity', 'window'
from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as n(id, country, zones, destination)
on conflict do nothing
