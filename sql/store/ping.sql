-- Whether Postgres answers, and can write; and how the provider stands, as all processes know it.
-- Used by store::installation::ping.
select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off' as "writable!", l.breaker, l.provider_ceiling
from (select) one
left join ops.limits l on true
