-- Have the provider asked about every open attempt now.
-- Used by queue::ask_about_all.
update attempts set check_at = clock() where ended_at is null and state in ('unknown', 'accepted')
