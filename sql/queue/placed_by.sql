-- By which edition of the rules what waits was put into its lanes.
-- Used by queue::windows.
select placed_by from installation
