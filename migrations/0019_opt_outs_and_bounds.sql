-- Who asked not to be called, in a call, is not called again because somebody tidies a list.
alter table suppressions add column asked boolean not null default false;
comment on column suppressions.asked is 'The callee asked for it during a call: no tenant takes it off, and an admin only with a reason, which is kept.';
update suppressions s set asked = true
where s.reason = 'asked during a call'
  or exists (select from calls c where c.phone = s.phone and c.user_id = s.user_id and c.disposition = 'DO_NOT_CALL' and c.dials > 0);

-- A person's variables go into each call, with the name beside them: what fits here must fit there, or no word about such a call could be
-- written down. Far larger ones are set aside.
insert into dead_letters (kind, subject_id, user_id, reason, detail, body)
select 'prospect', id, user_id, 'UNREADABLE', 'variables too large for a call', variables::text
from prospects where octet_length(variables::text) > 60000;
update prospects set variables = '{}' where octet_length(variables::text) > 60000;
alter table prospects add constraint prospects_variables_fit_a_call check (octet_length(variables::text) <= 60000);

-- A date that is none, or a list of lists, closes nothing and cannot be read.
update schedules set closed_dates = array(select d from unnest(closed_dates) d where d is not null)
where array_position(closed_dates, null) is not null or coalesce(array_ndims(closed_dates), 1) <> 1;
alter table schedules add constraint schedules_closed_dates_are_a_list
  check (array_position(closed_dates, null) is null and coalesce(array_ndims(closed_dates), 1) = 1);
