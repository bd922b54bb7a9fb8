"""The catalogue queries, each with a name. {foreign} and {foreign_columns} are InnoDB's own views.

information_schema shows foreign keys of other schemas to those alone who have rights there; InnoDB's views show all.
"""

from typing import Final

SERVER_MYSQL: Final = """
SELECT @@read_only, @@super_read_only OR @@innodb_read_only, @@server_uuid
"""

SERVER_MARIADB: Final = """
SELECT @@read_only, @@innodb_read_only, @@server_uid
"""

SERVER_MARIADB_OLD: Final = """
SELECT @@read_only, @@innodb_read_only, CONCAT(@@hostname, ':', @@port, @@datadir)
"""

TABLE: Final = """
SELECT table_schema, table_name, table_type, engine, table_rows,
       coalesce(data_length, 0), coalesce(index_length, 0), coalesce(data_free, 0),
       coalesce(create_options, ''),
       (SELECT count(*) FROM information_schema.partitions p
        WHERE p.table_schema = t.table_schema AND p.table_name = t.table_name)
FROM information_schema.tables t WHERE table_schema = %s AND table_name = %s
"""

COLUMNS: Final = """
SELECT column_name, column_type, character_set_name, collation_name, extra
FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""

# {visible} is spelled IS_VISIBLE on MySQL, IGNORED on MariaDB.
INDEXES: Final = """
SELECT index_name, column_name,
       sub_part IS NULL AND coalesce(collation, '') = 'A' AND index_type = 'BTREE' AND {visible}
FROM information_schema.statistics WHERE table_schema = %s AND table_name = %s ORDER BY index_name, seq_in_index
"""

RANGES_OF: Final = """
SELECT 1 FROM information_schema.partitions
WHERE table_schema = %s AND table_name = %s AND partition_method LIKE 'RANGE%%'
  AND instr(partition_expression, %s) > 0
LIMIT 1
"""

DELETE_TRIGGERS: Final = """
SELECT trigger_name FROM information_schema.triggers
WHERE event_object_schema = %s AND event_object_table = %s AND event_manipulation = 'DELETE' ORDER BY 1
"""

FOREIGN_KEYS: Final = """
SELECT f.id, f.for_name, f.type, c.for_col_name, c.ref_col_name
FROM information_schema.{foreign} f JOIN information_schema.{foreign_columns} c ON c.id = f.id
WHERE f.ref_name = %(name)s
  AND (@@lower_case_table_names <> 0 OR CAST(f.ref_name AS BINARY) = CAST(%(name)s AS BINARY))  -- Events, events
ORDER BY f.id, c.pos
"""

# MariaDB keeps these names as it names files: my@0020shop/flights.
ENCODE_NAME: Final = """
SELECT CONVERT(CAST(CONVERT(%s USING filename) AS BINARY) USING utf8mb4),
       CONVERT(CAST(CONVERT(%s USING filename) AS BINARY) USING utf8mb4)
"""
DECODE_NAME: Final = """
SELECT CONVERT(CONVERT(CAST(%s AS BINARY) USING filename) USING utf8mb4),
       CONVERT(CONVERT(CAST(%s AS BINARY) USING filename) USING utf8mb4)
"""

FUNCTIONS: Final = """
SELECT routine_name FROM information_schema.routines
WHERE routine_type = 'FUNCTION' AND routine_name IN ({marks}) ORDER BY 1
"""

FINGERPRINT: Final = """
SELECT 'column', ordinal_position, column_name, column_type, character_set_name, collation_name, is_nullable,
       replace(replace(extra, 'DEFAULT_GENERATED', ''), ' ', ''), generation_expression
FROM information_schema.columns WHERE table_schema = %(schema)s AND table_name = %(table)s
UNION ALL
SELECT 'key', seq_in_index, column_name, coalesce(sub_part, 0), '', '', '', '', ''
FROM information_schema.statistics
WHERE table_schema = %(schema)s AND table_name = %(table)s AND index_name = 'PRIMARY'
UNION ALL
SELECT 'trigger', action_order, trigger_name, event_manipulation, action_timing, '', '', '', sha2(action_statement, 256)
FROM information_schema.triggers WHERE event_object_schema = %(schema)s AND event_object_table = %(table)s
UNION ALL
SELECT 'table', 0, table_type, engine, '', '', '', '', ''
FROM information_schema.tables WHERE table_schema = %(schema)s AND table_name = %(table)s
ORDER BY 1, 2, 3
"""
