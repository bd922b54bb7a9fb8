-- What docs/postgresql.md asks for. The role owns the tables of the examples, so that it may VACUUM them.
\getenv password HYGIENE_PASSWORD
CREATE ROLE hygiene LOGIN PASSWORD :'password';
GRANT USAGE ON SCHEMA public TO hygiene;
ALTER TABLE flights OWNER TO hygiene;
ALTER TABLE planes OWNER TO hygiene;
ALTER TABLE airports OWNER TO hygiene;
GRANT SELECT ON airlines TO hygiene;
CREATE SCHEMA dbhygiene AUTHORIZATION hygiene;
