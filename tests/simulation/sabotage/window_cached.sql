-- A window that was opened once stays what it was until it is over, whatever the rules say since.
create function sabotage() returns trigger language plpgsql as $$
begin
  if old.opens_at <= clock() and old.closes_at > clock() and old.closes_at < 'infinity' then
    new.opens_at := old.opens_at;
    new.closes_at := old.closes_at;
  end if;
  return new;
end $$;
create trigger sabotage before update on lanes for each row execute function sabotage();
