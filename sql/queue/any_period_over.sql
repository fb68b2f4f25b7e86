-- Whether there is a subscription to refill: most ticks have none, and leave the claims alone.
-- Used by queue::refill.
select exists (select from subscriptions where status = 'ACTIVE' and period_ends_at <= clock()) as "any!"
