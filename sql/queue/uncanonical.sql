-- Numbers on do-not-call lists that plain SQL has brought in.
-- $1 limit bigint
-- Used by queue::do_not_call.
select phone, user_id from suppressions where not canonical limit $1
