-- The user with this id or external id.
-- $1 id_or_external text
-- Used by store::users::find.
select id as "id!" from users where external_id = $1
union all
select id from users
where id = case when $1 ~ '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$' then $1::uuid end
limit 1
