-- The provider was reached: the next failure starts from the shortest hold again.
-- $1 provider text
-- Used by queue::clear_hold.
update provider_holds set failures = 0 where provider = $1 and failures > 0
