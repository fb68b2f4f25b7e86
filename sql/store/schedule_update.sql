-- Change a schedule; null keeps a field.
-- $1 id uuid   $2 name text?   $3 time_zone text?   $4 hours jsonb?   $5 closed_dates date[]?
-- Used by store::schedules::update; queue::windows writes the lanes afterwards.
update schedules
set name = coalesce($2, name), time_zone = coalesce($3, time_zone), hours = coalesce($4, hours),
  closed_dates = coalesce($5, closed_dates), updated_at = clock()
where id = $1
