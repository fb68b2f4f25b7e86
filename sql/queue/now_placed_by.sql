-- All that waits was put into its lanes by the edition $1 of the rules.
-- $1 edition int
-- Used by queue::windows.
update installation set placed_by = $1
