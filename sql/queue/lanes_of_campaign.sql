-- The lanes of a campaign.
-- $1 campaign_id uuid
-- Used by queue::windows.
select id, country, zones, closed_by from lanes where campaign_id = $1
