-- What a user has waiting and stored, and how much that may be.
-- $1 user_id uuid
-- Used by store::usage::of.
select
  waiting_calls as "waiting_calls!", waiting_calls_max as "waiting_calls_max!", upload_bytes as "upload_bytes!",
  upload_bytes_max as "upload_bytes_max!", kept_answer_bytes as "kept_answer_bytes!", kept_answer_bytes_max as "kept_answer_bytes_max!"
from ops.usage where user_id = $1
