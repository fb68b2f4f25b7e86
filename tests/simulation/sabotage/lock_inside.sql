-- The lock is taken inside the statement that counts, after its snapshot.
create or replace function admission_lock(shared boolean) returns void language plpgsql as $$
begin
  if shared then
    perform pg_advisory_xact_lock_shared(7001);
  end if;
end $$;
do $$
declare
  claim constant text := pg_get_functiondef('claim_calls'::regproc);
  counts constant text := '(select count(*) from attempts where ended_at is null);';
begin
  assert strpos(claim, counts) > 0, 'the claim does not count like that any more';
  execute replace(claim, counts, '(select count(*) from attempts, (select pg_advisory_xact_lock(7001)) l where ended_at is null);');
end $$;
