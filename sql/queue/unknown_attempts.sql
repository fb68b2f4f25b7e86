-- Which of these attempts this database does not know.
-- $1 ids uuid[]
-- Used by queue::adopt.
select i.id as "id!" from unnest($1::uuid[]) as i(id) where not exists (select from attempts a where a.id = i.id)
