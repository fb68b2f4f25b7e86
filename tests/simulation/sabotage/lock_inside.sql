-- The lock is taken inside the statement that counts, after its snapshot.
create or replace function admission_lock(shared boolean) returns void language plpgsql as $$
begin
  if shared then
    perform pg_advisory_xact_lock_shared(7001);
  end if;
end $$;
create or replace function clock() returns timestamptz language plpgsql stable as $$
begin
  if is_service() and not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off' then
    perform pg_advisory_xact_lock(7001);
  end if;
  return (select at from simulated_clock);
end $$;
