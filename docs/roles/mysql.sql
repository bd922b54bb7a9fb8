-- The rights that hygiene needs on MySQL and MariaDB, and no other. An administrator replaces the names and runs it:
--
--   sed -e 's/HYGIENE/hygiene/g; s/HOST/%/g; s/SCHEMA/shop/g; s/TABLE/flights/g' mysql.sql | mysql
--
-- Repeat it for each table. Set the password with ALTER USER 'hygiene'@'%' IDENTIFIED BY '…'.

CREATE USER IF NOT EXISTS 'HYGIENE'@'HOST';
GRANT SELECT, DELETE, TRIGGER ON `SCHEMA`.`TABLE` TO 'HYGIENE'@'HOST';   -- without TRIGGER its triggers are invisible
GRANT PROCESS ON *.* TO 'HYGIENE'@'HOST';   -- without it foreign keys of other schemas are, and act all the same

-- The ledger: the user makes its tables at the first run.
CREATE DATABASE IF NOT EXISTS dbhygiene;
GRANT ALL ON dbhygiene.* TO 'HYGIENE'@'HOST';

-- To put rows back with RestoreOperator, and for every reclaim but "none", for which the server asks for it:
--   GRANT INSERT ON `SCHEMA`.`TABLE` TO 'HYGIENE'@'HOST';
-- For cold tables in a database of their own, which the user makes itself:
--   GRANT SELECT, INSERT, DELETE, CREATE, ALTER, INDEX ON cold.* TO 'HYGIENE'@'HOST';
-- For reclaim "optimize" on a MySQL that has this right:
--   GRANT OPTIMIZE_LOCAL_TABLE ON *.* TO 'HYGIENE'@'HOST';
