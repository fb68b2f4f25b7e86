-- What a key may do, and where it was last used from. Keys that are there keep all they may.
alter table api_keys
  add column scopes text[] not null default '{read,write,dial,admin}',
  add column last_used_from inet,
  add constraint api_keys_scopes_known check (scopes <@ '{read,write,dial,admin}'::text[] and cardinality(scopes) > 0);
comment on column api_keys.scopes is 'read: see. write: change what rings no phone. dial: what may ring one. admin: keys, and what admins alone may.';
comment on column api_keys.last_used_from is 'The address of the connection: a proxy''s, where there is one.';
