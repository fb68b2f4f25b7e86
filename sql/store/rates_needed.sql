-- Whether somebody has a cap of cost, and whether there is a rate for any number.
-- Used by store::rates.
select exists (select from users where daily_cost_max is not null) as "caps!", exists (select from rates where prefix = '') as "default!"
