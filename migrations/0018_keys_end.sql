-- Keys end with their user, or at a time.

-- Those whose user is gone made calls in nobody's name.
delete from api_keys k where k.user_id is not null and not exists (select from users u where u.id = k.user_id);
alter table api_keys
  add column expires_at timestamptz,
  add constraint api_keys_user_fkey foreign key (user_id) references users (id) on delete cascade,
  add constraint api_keys_expires_at_computable check (is_computable(expires_at));
comment on column api_keys.expires_at is 'It opens nothing from then on; null: never.';
-- Nobody's keys are the admins'.
create index api_keys_by_user on api_keys (user_id, id);
