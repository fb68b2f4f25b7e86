-- Put the rules this process was started with in force.
-- $1 obeys_hours bool   $2 obeys_destinations bool   $3 sorts_operator bool   $4 countries text[]?
-- Used by queue::windows.
select settle_rules($1, $2, $3, $4)
