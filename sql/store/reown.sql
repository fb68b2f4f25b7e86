-- The schema belongs to the role of the service, which is no superuser: everything in it that belongs to another is given to it.
-- A database made by an earlier version belonged to postgres.
-- Run as a superuser. Used by db::embedded.
do $$
declare
  change text;
begin
  for change in
    select format('alter schema %I owner to outdial', nspname)
    from pg_namespace where nspname in ('public', 'ops') and nspowner <> 'outdial'::regrole
    union all
    select format('alter %s %s owner to outdial',
      case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.oid::regclass)
    from pg_class c
    where c.relnamespace in (select oid from pg_namespace where nspname in ('public', 'ops')) and c.relkind in ('r', 'v', 'S')
      and c.relowner <> 'outdial'::regrole
      -- The sequence of a column goes with its table.
      and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i') and c.relkind = 'S')
    union all
    select format('alter function %s owner to outdial', p.oid::regprocedure)
    from pg_proc p
    where p.pronamespace in (select oid from pg_namespace where nspname in ('public', 'ops')) and p.proowner <> 'outdial'::regrole
    union all
    select format('alter type %s owner to outdial', t.oid::regtype)
    from pg_type t
    where t.typnamespace in (select oid from pg_namespace where nspname in ('public', 'ops')) and t.typtype = 'e' and t.typowner <> 'outdial'::regrole
  loop
    execute change;
  end loop;
end
$$
