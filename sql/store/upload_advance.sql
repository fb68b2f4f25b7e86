-- Rows have their verdicts: keep them and the lease. Fenced by the rows done before, so that of two readers one stops; so does
-- one whose campaign is canceled.
-- $1 id uuid   $2 first_row bigint   $3 verdicts text   $4 rows bigint   $5 accepted bigint   $6 bytes_done bigint   $7 lease_secs float8
-- Used by store::uploads::advance.
with advanced as (
  update uploads
  set rows_done = rows_done + $4, accepted = accepted + $5, rejected = rejected + $4 - $5, bytes_done = $6, takes = 0,
    kept_bytes = kept_bytes + octet_length($3),
    lease_until = clock() + make_interval(secs => $7)
  where id = $1 and rows_done = $2 and status = 'running'
    and not exists (select from campaigns g where g.id = campaign_id and g.canceled_at is not null)
  returning id
)
insert into upload_verdicts (upload_id, first_row, verdicts)
select id, $2, $3 from advanced
