-- What each tenant's lists and answers take up, without measuring them anew.

alter table uploads
  add column kept_bytes bigint not null default 0,
  add constraint uploads_kept_bytes_not_negative check (kept_bytes >= 0);
comment on column uploads.kept_bytes is 'Bytes of its verdicts.';
update uploads u set kept_bytes = coalesce((select sum(octet_length(v.verdicts)) from upload_verdicts v where v.upload_id = u.id), 0);
create index uploads_by_user on uploads (user_id, id) where user_id is not null;

alter table installation
  add column waiting_calls_max bigint not null default 1000000,
  add column upload_bytes_max bigint not null default 2147483648,
  add column kept_answer_bytes_max bigint not null default 268435456;
comment on column installation.waiting_calls_max is 'What each tenant may have, as the newest process was told; for views.';

create view ops.usage as
  select
    u.id as user_id, u.external_id,
    (select coalesce(sum(t.n), 0)::bigint from (
       select n from public.tallies where user_id = u.id and what = 'PENDING'
       union all
       select n from public.tally_deltas where user_id = u.id and what = 'PENDING') t) as waiting_calls,
    i.waiting_calls_max,
    (select coalesce(sum(case when p.status in ('receiving', 'running') then p.bytes else 0 end + p.kept_bytes), 0)::bigint
     from uploads p where p.user_id = u.id) as upload_bytes,
    i.upload_bytes_max,
    (select coalesce(sum(octet_length(k.body)), 0)::bigint from idempotency_keys k where k.user_id = u.id) as kept_answer_bytes,
    i.kept_answer_bytes_max
  from users u
  cross join installation i;
comment on view ops.usage is 'What each user has waiting and stored, and how much that may be.';
