-- Lists of calls by status, of everybody, of a user, of a campaign: each reads as many rows as it shows, whatever else the table holds.
-- A call enters these once, when it ends, and calls_pending_by_user when it begins to wait; measured over a million calls, that is
-- 3 to 5 µs and about 370 bytes of WAL on top of some 60 µs and 1,820 bytes that the table and its other indexes take for a call.
--
-- An index for fewer is hidden from statements that have one for themselves: rows of one user that are rare among all would be looked
-- for among all. Every ended call has a time after -infinity and no other has one, but only a statement that says so is offered the
-- index; call_list.sql and call_count.sql say it when neither a user nor a campaign is named, and "is not null" when no campaign is.

drop index calls_pending;
create index calls_pending on calls (id) where state in ('waiting', 'parked') and ended_at is null;
drop index calls_unhappy;
create index calls_ended on calls (state, id) where ended_at > '-infinity';
create index calls_ended_by_user on calls (user_id, state, id) where ended_at is not null;
create index calls_ended_by_campaign on calls (campaign_id, state, id)
  where campaign_id is not null and state in ('completed', 'failed', 'expired', 'canceled');
create index calls_pending_by_user on calls (user_id, id) where state in ('waiting', 'parked');
