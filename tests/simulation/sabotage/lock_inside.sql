-- The lock is taken inside the statement that counts, after its snapshot.
create or replace function admission_lock(shared boolean) returns void language plpgsql as $$
begin
  if shared then
    perform pg_advisory_xact_lock_shared(7001);
  end if;
end $$;
do $$ begin
  execute replace(pg_get_functiondef('claim_calls'::regproc), 'select $13 as at', 'select $13 as at from (select pg_advisory_xact_lock(7001)) l');
end $$;
