-- What docs/mysql.md asks for, in place of all rights that the image gives to MYSQL_USER.
REVOKE ALL PRIVILEGES ON shop.* FROM 'hygiene'@'%';
GRANT SELECT, DELETE, INSERT, TRIGGER ON shop.* TO 'hygiene'@'%';
GRANT PROCESS ON *.* TO 'hygiene'@'%';
CREATE DATABASE dbhygiene;
GRANT ALL ON dbhygiene.* TO 'hygiene'@'%';
