-- A role for the service, which owns its database and is no superuser. Run once by a superuser of the server, as Compose does at the first
-- start; a managed Postgres has its own way to make both. Change the password.
create role outdial login password 'outdial';
create database outdial owner outdial;
