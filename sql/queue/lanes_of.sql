-- The lanes of a campaign, or of a user's single calls (but for those the service has yet to sort).
-- $1 campaign_id uuid?   $2 user_id uuid?
-- Used by queue::windows.
select id as "id!", country as "country!", zones as "zones!", destination as "destination!", closed_by from lanes where campaign_id = $1
union all
select id, country, zones, destination, closed_by from lanes
where user_id = $2 and campaign_id is null and country not in ('?', '*')
