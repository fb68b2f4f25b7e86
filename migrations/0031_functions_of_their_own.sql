-- Functions that change with the program, not with the data: they stand in sql/functions and are installed anew when one of them changed.
create table installed_functions (
  is_only boolean primary key default true constraint installed_functions_one check (is_only),
  digest  text not null
);
comment on table installed_functions is 'Which edition of sql/functions this database has: written when they are installed (outdial migrate, or a start).';

create function wall_clock() returns timestamptz
language sql volatile parallel safe
as $$ select coalesce(nullif(current_setting('outdial.now', true), '')::timestamptz, clock_timestamp()) $$;
comment on function wall_clock() is
  'The time at this very moment, for who has waited for a lock inside its statement; clock() is the time the statement began.';
