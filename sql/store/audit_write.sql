-- Note what a person does by hand, before it is done.
-- $1 actor text   $2 action text   $3 subject text   $4 before jsonb?   $5 after jsonb?
-- Used by store::audit::write.
insert into audit_log (actor, action, subject, before, after) values ($1, $2, $3, $4, $5)
