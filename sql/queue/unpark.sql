-- Bring back the best parked call of each lane for each number of $1 that is on no call, and wake its lane; how many.
-- $1 phones text[]
-- Needs the admission lock. Used by queue::unpark.
select bring_back($1) as "n!"
