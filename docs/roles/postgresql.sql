-- The rights that hygiene needs on PostgreSQL, and no other. An administrator runs it, in the database to clean:
--
--   psql shop -v role=hygiene -v schema=public -v table=flights -v column=id -f postgresql.sql
--
-- Repeat it for each table; `column` is any column of it. Set the role's password with \password.

SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', current_database(), :'role') \gexec

GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT, DELETE ON :"schema".:"table" TO :"role";
GRANT UPDATE (:"column") ON :"schema".:"table" TO :"role";   -- SELECT … FOR UPDATE asks for it; no row is updated

-- The ledger: the role makes its tables at the first run.
CREATE SCHEMA IF NOT EXISTS dbhygiene AUTHORIZATION :"role";

-- For a cold table in schema cold, which the role makes itself: GRANT USAGE, CREATE ON SCHEMA cold TO :"role";
-- To put rows back with RestoreOperator:    GRANT INSERT ON :"schema".:"table" TO :"role";
-- For reclaim "vacuum" (the default) and "analyze". Before version 17 only the table's owner may: reclaim "none" then.
--                                           GRANT MAINTAIN ON :"schema".:"table" TO :"role";
-- For max_replica_lag_seconds and max_active_sessions: GRANT pg_monitor TO :"role";
