-- Attempts committed in the name of process $1 that it does not know of (the answer to a commit was lost): never sent.
-- $1 instance uuid   $2 known uuid[]
-- Used by queue::unsent.
select id from attempts
where ended_at is null and state = 'dialing' and instance_id = $1 and id <> all ($2)
