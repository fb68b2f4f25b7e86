-- Put calls into their lanes, a verdict each: one trip, which takes the admission lock (shared) itself and commits.
-- $1 ids uuid[]            $2 user_ids uuid[]         $3 lane_ids uuid[]          $4 campaign_ids uuid[]?
-- $5 ranks smallint[]      $6 priorities smallint[]   $7 due_ats timestamptz[]?, null = now
-- $8 expires_ats timestamptz[]?   $9 phones text[]    $10 script_ids text[]       $11 metadata jsonb[]
-- $12 variables jsonb[]    $13 external_ids text[]?   $14 time_zones text[]?      $15 ignore_windows bool[]
-- $16 dials_maxes smallint[]      $17 rejects bool[]: no second waiting or live call of this user to the number
-- $18 prospect_ids uuid[]?
-- Used by queue::enqueue. The plan of the function's statement is pinned by tests/it/plans.rs.
select nth as "nth!", suppressed as "suppressed!", twin_id, created_at, due_at
from enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
