-- An attempt in doubt is over, and its call waits again.
create function sabotage() returns trigger language plpgsql as $$
begin
  if new.state = 'unknown' and old.state = 'dialing' then
    new.state := 'ended';
    new.ended_at := clock();
    update calls set state = 'waiting' where id = new.call_id and state = 'live';
  end if;
  return new;
end $$;
create trigger sabotage before update on attempts for each row execute function sabotage();
