-- Lanes whose window is to be written anew: of a campaign, of a schedule's campaigns, of a user's single calls, of an area of law, or
-- those whose time has come (all null).
-- $1 campaign_id uuid?   $2 schedule_id uuid?   $3 user_id uuid?   $4 area text?   $5 limit bigint
-- Used by queue::windows.
select id from lanes
where $1::uuid is not null and campaign_id = $1
union
select l.id from campaigns g join lanes l on l.campaign_id = g.id
where $2::uuid is not null and g.schedule_id = $2
union
select id from lanes
where $3::uuid is not null and user_id = $3 and campaign_id is null and country not in ('?', '*')
union
select id from lanes
where $4::text is not null and country not in ('?', '*') and (campaign_id is not null or closes_at < 'infinity')
  and ($4 = '*' or country = $4 or $4 = any (zones) or zones = '{}')
union
(select id from lanes
 where num_nonnulls($1::uuid, $2::uuid, $3::uuid, $4::text) = 0 and refresh_at < 'infinity' and refresh_at <= clock()
 order by refresh_at
 limit $5)
