"""The catalogue queries, each with a name. ``tree`` is the table with all its partitions."""

from typing import Final, LiteralString

_TREE: Final = """
WITH RECURSIVE tree(oid) AS (
    SELECT %(oid)s::oid
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
)
"""

SERVER: Final[LiteralString] = """
SELECT pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('transaction_read_only'),
       (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END,
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint,
       ARRAY(SELECT name
             FROM (VALUES ('session_replication_role', 'replica'), ('quote_all_identifiers', 'on')) AS odd(name, value)
             WHERE pg_catalog.current_setting(name) = value)
"""

OID: Final[LiteralString] = """
SELECT c.oid
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
"""

TABLE: Final[LiteralString] = """
WITH RECURSIVE root AS (
    SELECT c.*, a.amname
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), tree(oid) AS (
    SELECT oid FROM root
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
), leaf AS (
    SELECT c.relkind, a.amname, c.reltuples, c.relpages, pg_catalog.pg_relation_size(c.oid) AS bytes,
           pg_catalog.pg_table_size(c.oid) AS all_bytes
    FROM tree JOIN pg_catalog.pg_class c USING (oid)
    LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
    WHERE c.relkind <> 'p'
)
SELECT root.oid, root.relkind::text, root.relpersistence::text,
       root.relkind = 'p' OR coalesce(root.amname = 'heap', false),
       root.relkind IN ('r', 'p') AND pg_catalog.row_security_active(root.oid),
       root.reltuples,
       CASE WHEN NOT EXISTS (SELECT FROM leaf WHERE reltuples < 0 AND bytes > 0) THEN (
           SELECT coalesce(sum(CASE WHEN bytes = 0 THEN 0
                                    WHEN relpages = 0 THEN greatest(reltuples, 0)
                                    ELSE reltuples / relpages
                                         * (bytes / pg_catalog.current_setting('block_size')::int) END), 0)::bigint
           FROM leaf) END,
       (SELECT coalesce(sum(all_bytes), 0)::bigint FROM leaf),
       pg_catalog.getdatabaseencoding(),
       NOT EXISTS (SELECT FROM leaf WHERE relkind <> 'r' OR amname IS DISTINCT FROM 'heap')
FROM root
"""

COLUMNS: Final[LiteralString] = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.atttypid = 'numeric'::pg_catalog.regtype AND a.atttypmod >= 0
            THEN ((a.atttypmod - 4) >> 16) & 65535 END,
       CASE WHEN a.atttypid = 'numeric'::pg_catalog.regtype AND a.atttypmod >= 0
            THEN (((a.atttypmod - 4) & 2047) # 1024) - 1024 END,
       ARRAY(
           WITH RECURSIVE made_of(oid, depth) AS (
               SELECT a.atttypid, 0
               UNION
               SELECT part.oid, depth + 1
               FROM made_of m JOIN pg_catalog.pg_type t ON t.oid = m.oid
               CROSS JOIN LATERAL (
                   SELECT t.typelem AS oid WHERE t.typcategory = 'A' AND t.typelem <> 0
                   UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
                   UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                             WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
                   UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r
                             WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
               ) part WHERE depth < 16
           )
           SELECT ROW(t.typname, CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN 'A' ELSE t.typtype END,
                      t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace)
           FROM made_of m JOIN pg_catalog.pg_type t USING (oid) ORDER BY depth
       )
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

DDL: Final[LiteralString] = """
SELECT pg_catalog.quote_ident(a.attname) || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
       || coalesce(' COLLATE ' || (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname)
                                   FROM pg_catalog.pg_collation c
                                   JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
                                   JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                                   WHERE c.oid = a.attcollation AND a.attcollation <> t.typcollation), '')
       || CASE WHEN a.attgenerated <> '' THEN
               ' GENERATED ALWAYS AS (' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || ') '
               || CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END
               WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY'
               WHEN a.attidentity = 'd' THEN ' GENERATED BY DEFAULT AS IDENTITY'
               ELSE coalesce(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') END
       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

KEY: Final[LiteralString] = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s AND i.indisprimary AND i.indisvalid
ORDER BY k.place
"""

# What orders the primary key's index where no comparison would be taken for it: under another name, or out of reach.
OTHER_OPERATORS: Final[LiteralString] = """
SELECT DISTINCT ON (a.attname) a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), oprname::text,
       pg_catalog.quote_ident(n.nspname)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1], i.indclass) AS k(attnum, opclass)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_catalog.pg_opclass c ON c.oid = k.opclass
JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily
     AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype
JOIN pg_catalog.pg_operator ON pg_operator.oid = o.amopopr
JOIN pg_catalog.pg_namespace n ON n.oid = oprnamespace
WHERE i.indrelid = %s AND i.indisprimary AND i.indisvalid
  AND (oprname NOT IN ('<', '<=', '=', '>=', '>') OR NOT pg_catalog.pg_operator_is_visible(o.amopopr))
ORDER BY a.attname, oprname IN ('<', '<=', '=', '>=', '>')
"""

WALK_INDEXES: Final[LiteralString] = """
SELECT ic.relname, ARRAY(
           SELECT a.attname::text
           FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
           ORDER BY k.place)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
JOIN pg_catalog.pg_am am ON am.oid = ic.relam AND am.amname = 'btree'
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
  AND i.indisvalid AND i.indisready AND i.indislive AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT EXISTS (
      SELECT FROM generate_series(0, i.indnkeyatts - 1) AS place
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[place]
      JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[place]
      WHERE i.indoption[place] <> 0 OR NOT o.opcdefault
         OR (a.attcollation <> 0 AND i.indcollation[place] <> a.attcollation))
ORDER BY ic.relname
"""

LEADS_TO: Final[LiteralString] = """
SELECT EXISTS (
           SELECT FROM pg_catalog.pg_index i
           WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum)
       OR EXISTS (
           SELECT FROM pg_catalog.pg_partitioned_table p
           WHERE p.partrelid = a.attrelid AND p.partstrat = 'r' AND p.partattrs[0] = a.attnum)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attname = %(column)s
"""

# The number of different values that ANALYZE notes below zero is a part of all rows, those with NULL included.
ROWS_OF_ONE_VALUE: Final[LiteralString] = """
SELECT least(filled, greatest(
           rows * coalesce(most_common_freqs[1], 0),
           filled / nullif(CASE WHEN n_distinct < 0 THEN -n_distinct * rows ELSE n_distinct END, 0)))
FROM (SELECT s.*, %(rows)s::float8 AS rows, %(rows)s::float8 * (1 - null_frac) AS filled
      FROM pg_catalog.pg_stats s) AS s
WHERE schemaname = %(schema)s AND tablename = %(table)s AND attname = %(column)s
ORDER BY inherited DESC
LIMIT 1
"""

YOUNG_INDEXES: Final[LiteralString] = """
SELECT i.indexrelid::pg_catalog.regclass::text
FROM pg_catalog.pg_index i
WHERE i.indrelid = %s::pg_catalog.regclass AND i.indcheckxmin
  AND age(i.xmin) <= age(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.xid)
ORDER BY 1
"""
"""Rows were changed when they were made, and transactions that may see these as they were still run."""

DELETE_TRIGGERS: Final[LiteralString] = (
    _TREE
    + """
SELECT t.tgname, t.tgrelid::pg_catalog.regclass::text
FROM tree JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.oid
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 8 <> 0
ORDER BY 1, 2
"""
)

RULES: Final[LiteralString] = (
    _TREE
    + """
SELECT r.rulename, r.ev_class::pg_catalog.regclass::text
FROM tree JOIN pg_catalog.pg_rewrite r ON r.ev_class = tree.oid
WHERE r.ev_enabled <> 'D' AND r.ev_type <> '1'
ORDER BY 1, 2
"""
)

ROOT: Final[LiteralString] = """
SELECT n.nspname, r.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE c.oid = %s AND c.relispartition
"""

# Each of the tables with each that it is a partition of, or inherits from, over any number of steps.
ANCESTORS: Final[LiteralString] = """
WITH RECURSIVE named(oid) AS (
    SELECT c.oid
    FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS name(nspname, relname)
    JOIN pg_catalog.pg_namespace n USING (nspname)
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = name.relname
), line(child, parent) AS (
    SELECT oid, oid FROM named
    UNION
    SELECT l.child, i.inhparent FROM line l JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.parent
)
SELECT cn.nspname, c.relname, pn.nspname, p.relname
FROM line
JOIN pg_catalog.pg_class c ON c.oid = child JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = parent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE child <> parent
"""

INHERITANCE: Final[LiteralString] = """
SELECT i.inhparent::pg_catalog.regclass::text, i.inhrelid::pg_catalog.regclass::text
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %(oid)s AND NOT c.relispartition
ORDER BY 2
"""

FOREIGN_KEYS: Final[LiteralString] = (
    _TREE
    + """
SELECT k.conname, k.conrelid::pg_catalog.regclass::text,
       ARRAY(SELECT pg_catalog.quote_ident(a.attname)
             FROM unnest(k.conkey) WITH ORDINALITY AS c(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.attnum ORDER BY c.place),
       ARRAY(SELECT pg_catalog.quote_ident(a.attname)
             || coalesce(' COLLATE ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(o.collname),
                         '')
             FROM unnest(k.confkey) WITH ORDINALITY AS c(attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = c.attnum
             LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation AND o.collname <> 'default'
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace ORDER BY c.place),
       k.confdeltype::text,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
               JOIN pg_catalog.pg_am am ON am.oid = ic.relam AND am.amname IN ('btree', 'hash')
               WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL
                 AND i.indkey[0:cardinality(k.conkey) - 1]::int2[] <@ k.conkey
                 AND k.conkey <@ i.indkey[0:cardinality(k.conkey) - 1]::int2[]),
       pg_catalog.has_table_privilege(k.conrelid, 'SELECT')
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.confrelid IN (SELECT oid FROM tree)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint whole JOIN tree ON tree.oid = whole.confrelid
                  WHERE whole.oid = k.conparentid)
ORDER BY 2, 1
"""
)

PRIVILEGES: Final[LiteralString] = """
SELECT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'),
       pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       pg_catalog.has_table_privilege(c.oid, 'DELETE'),
       pg_catalog.has_any_column_privilege(c.oid, 'UPDATE'),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY'),
       pg_catalog.pg_has_role(c.relowner, 'USAGE')
           OR pg_catalog.pg_has_role((SELECT datdba FROM pg_catalog.pg_database
                                      WHERE datname = pg_catalog.current_database()), 'USAGE')
           OR CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 170000
                   THEN pg_catalog.has_table_privilege(c.oid, 'MAINTAIN') ELSE false END,
       pg_catalog.quote_ident(current_user),
       pg_catalog.quote_ident(pg_catalog.current_database())
FROM pg_catalog.pg_class c WHERE c.oid = %(oid)s
"""

PUBLICATIONS: Final[LiteralString] = (
    _TREE
    + """
SELECT p.pubname, p.puballtables
FROM pg_catalog.pg_publication p
WHERE p.pubdelete AND (p.puballtables OR EXISTS (
    SELECT FROM pg_catalog.pg_publication_tables pt
    JOIN pg_catalog.pg_namespace n ON n.nspname = pt.schemaname
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = pt.tablename
    JOIN tree ON tree.oid = c.oid
    WHERE pt.pubname = p.pubname))
ORDER BY 1
"""
)

WITHOUT_IDENTITY: Final[LiteralString] = (
    _TREE
    + """
SELECT leaf.oid::regclass::text, min(p.pubname)
FROM tree JOIN pg_catalog.pg_class leaf USING (oid) JOIN pg_catalog.pg_publication p ON p.pubdelete
WHERE leaf.relkind = 'r' AND leaf.relpersistence = 'p'
  AND (leaf.relreplident = 'n' OR leaf.relreplident = 'i' AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = leaf.oid AND i.indisreplident))
  AND (p.puballtables OR EXISTS (
      SELECT FROM pg_catalog.pg_publication_tables pt
      JOIN pg_catalog.pg_namespace n ON n.nspname = pt.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = pt.tablename
      WHERE pt.pubname = p.pubname
        AND (c.oid = leaf.oid OR c.oid IN (SELECT pg_catalog.pg_partition_ancestors(leaf.oid)))))
GROUP BY 1
ORDER BY 1
"""
)

# Each batch asks this, also where there are thousands of tables: pg_constraint has no index by the table that a key
# points at, but that table has the key's triggers; and OFFSET keeps the planner from reading all of pg_type.
FINGERPRINT: Final[LiteralString] = """
WITH RECURSIVE root AS (
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
), tree(oid) AS (
    SELECT oid FROM root
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid
), made_of(oid) AS (
    SELECT a.atttypid FROM root JOIN pg_catalog.pg_attribute a ON a.attrelid = root.oid AND a.attnum > 0
    UNION
    SELECT part.oid FROM made_of m JOIN pg_catalog.pg_type t ON t.oid = m.oid
    CROSS JOIN LATERAL (
        SELECT t.typelem AS oid WHERE t.typelem <> 0
        UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                  WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r
                  WHERE t.typtype IN ('r', 'm') AND (r.rngtypid = t.oid OR r.rngmultitypid = t.oid)
    ) part
), constrained(oid) AS (
    SELECT k.oid FROM root JOIN pg_catalog.pg_constraint k ON k.conrelid = root.oid
    UNION
    SELECT t.tgconstraint FROM tree JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.oid WHERE t.tgconstraint <> 0
)
SELECT 'column ' || ROW(a.attrelid = root.oid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation,
                        a.attnotnull, a.attgenerated, a.attisdropped)::text
FROM root JOIN pg_catalog.pg_attribute a ON a.attrelid = root.oid AND a.attnum > 0
UNION ALL
SELECT 'type ' || ROW(t.oid, t.typname, a.attnum, a.attname, a.atttypid, a.atttypmod)::text
FROM made_of CROSS JOIN LATERAL (SELECT * FROM pg_catalog.pg_type WHERE oid = made_of.oid OFFSET 0) t
LEFT JOIN pg_catalog.pg_attribute a ON t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0
UNION ALL
SELECT 'label ' || ROW(e.enumtypid, e.enumlabel, e.enumsortorder)::text
FROM made_of JOIN pg_catalog.pg_enum e ON e.enumtypid = made_of.oid
UNION ALL
SELECT 'table ' || ROW(c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, a.amname,
                       c.relispartition)::text
FROM root JOIN pg_catalog.pg_class c USING (oid) LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
UNION ALL
SELECT 'foreign leaf ' || c.oid
FROM tree JOIN pg_catalog.pg_class c USING (oid) WHERE c.relkind NOT IN ('r', 'p')
UNION ALL
SELECT 'child ' || c.oid
FROM tree JOIN pg_catalog.pg_class c USING (oid), root WHERE c.oid <> root.oid AND NOT c.relispartition
UNION ALL
SELECT DISTINCT 'trigger ' || ROW(t.tgname, t.tgfoid, t.tgtype, t.tgenabled, t.tgqual)::text
FROM tree JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.oid WHERE NOT t.tgisinternal
UNION ALL
SELECT DISTINCT 'rule ' || ROW(r.rulename, r.ev_type, r.ev_enabled, r.is_instead, r.ev_action)::text
FROM tree JOIN pg_catalog.pg_rewrite r ON r.ev_class = tree.oid
UNION ALL
SELECT 'policy ' || ROW(p.polname, p.polcmd, p.polpermissive, p.polroles, p.polqual)::text
FROM root JOIN pg_catalog.pg_policy p ON p.polrelid = root.oid
UNION ALL
SELECT 'key ' || ROW(k.conname, k.contype, k.conkey, k.conrelid, k.confrelid, k.confkey, k.confdeltype)::text
FROM constrained JOIN pg_catalog.pg_constraint k USING (oid)
WHERE k.conrelid = (SELECT oid FROM root) AND k.contype IN ('f', 'p')
   OR k.contype = 'f' AND k.confrelid IN (SELECT oid FROM tree)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint whole JOIN tree ON tree.oid = whole.confrelid
                      WHERE whole.oid = k.conparentid)
ORDER BY 1
"""
