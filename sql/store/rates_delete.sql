-- Used by store::rates::put.
delete from rates
