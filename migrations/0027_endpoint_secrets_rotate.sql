-- The secret of an endpoint is changed without a gap: for a while what is sent carries a signature by each.
alter table webhook_endpoints
  add column previous_secret text,
  add column previous_secret_until timestamptz,
  add constraint webhook_endpoints_previous_secret_ends check ((previous_secret is null) = (previous_secret_until is null)),
  add constraint webhook_endpoints_previous_secret_until_computable check (is_computable(previous_secret_until));
comment on column webhook_endpoints.previous_secret is 'Signs beside the present one until previous_secret_until.';
