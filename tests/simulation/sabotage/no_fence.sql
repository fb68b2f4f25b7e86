-- Whatever was decided on old facts is written all the same: the revision that fences it never grows.
create function sabotage() returns trigger language plpgsql as $$ begin new.revision := old.revision; return new; end $$;
create trigger sabotage before update on attempts for each row execute function sabotage();
