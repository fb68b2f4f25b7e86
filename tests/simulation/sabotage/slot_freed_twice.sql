-- An event that is delivered again frees a slot again: somebody else's.
create function sabotage() returns trigger language plpgsql as $$
begin
  update attempts set ended_at = clock(), state = 'ended'
  where id = (select id from attempts where ended_at is null and id <> new.attempt_id order by id limit 1)
    and exists (select from attempts where id = new.attempt_id and ended_at is not null);
  return new;
end $$;
create trigger sabotage before insert on events for each row execute function sabotage();
