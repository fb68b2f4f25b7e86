-- What may have rung leaves the ledger of dials.
create function sabotage() returns trigger language plpgsql as $$
begin
  if new.state = 'unknown' then
    delete from dials where call_id = new.call_id and dialed_at = new.claimed_at;
  end if;
  return null;
end $$;
create trigger sabotage after update on attempts for each row execute function sabotage();
