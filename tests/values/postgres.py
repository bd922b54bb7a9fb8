"""Every type of PostgreSQL with its edge values, as SQL; NULL stands for itself and is in none of the lists."""

from __future__ import annotations

PREPARE = """
CREATE SCHEMA odd;
CREATE EXTENSION citext SCHEMA odd;
CREATE EXTENSION hstore SCHEMA odd;
CREATE EXTENSION ltree SCHEMA odd;
CREATE EXTENSION cube SCHEMA odd;
CREATE EXTENSION seg SCHEMA odd;
CREATE EXTENSION isn SCHEMA odd;
CREATE TYPE odd."Mood; %s" AS ENUM ('', 'so so', 'it''s "fine"', '😀');
CREATE TYPE odd.inner_part AS (a text, b numeric);
CREATE TYPE odd.pair AS (a text, b int, c odd.inner_part, d odd.inner_part[]);
CREATE DOMAIN odd.short_text AS text CHECK (length(VALUE) < 9);
CREATE DOMAIN odd.two_places AS numeric(6, 2);
CREATE DOMAIN odd.days AS date[];
"""

TEXTS = [
    *("''", "' '", "'plain'", "'NULL'", "'\\N'", "'\\.'", "E'\\\\.\\n'", "E'a\\n\\\\.\\nb'", "E'ends with newline\\n'"),
    *(
        "E'\\r\\n'",
        "E'\\r'",
        "E'\\t'",
        "E'ends with tab\\t'",
        "'ends with backslash\\'",
        "'\"'",
        "'a,b'",
        "''''",
        "'a\"\"b'",
    ),
    *("'größe 表 😀🏳️‍🌈'", "E'\\u0301'", "E'\\x01\\x7f'", "E'\\ufeff'", "repeat('x', 1000000)", "repeat('😀', 30000)"),
]

# Type → SQL of values beyond NULL, which every column has too.
TYPES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "0", "32767"],
    "integer": ["-2147483648", "0", "2147483647"],
    "bigint": ["'-9223372036854775808'", "0", "9223372036854775807"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'1e-45'", "'3.4028235e38'", "0.1", "1.0000001", "16777217"],
    "double precision": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'5e-324'", "'1.7976931348623157e308'", "0.1"],
    "text": TEXTS,
    "character varying": TEXTS,
    "character varying(7)": ["''", "'x  '", "'1234567'"],
    "character(5)": ["''", "'a'", "'12345'", "E'\\n'", "'ü'"],
    'pg_catalog."char"': ["'a'", "''", "'\"'", "'\\'"],
    "name": ["''", "'select'", "repeat('n', 63)"],
    "bytea": ["''", "'\\x00'", "'\\x00ff0a0d5c2e22'", "decode(repeat('00ff', 20000), 'hex')"],
    "date": ["'0001-01-01'", "'9999-12-31'", "'1582-10-10'", "'2024-02-29'"],
    "timestamp without time zone": ["'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'2024-03-31 02:30:00.000001'"],
    "timestamp with time zone": [
        "'0001-01-01 00:00+00'",
        "'9999-12-31 23:59:59.999999+00'",
        "'2024-10-27 00:30:00.5+00'",
    ],
    "timestamp(0) with time zone": ["'2024-01-01 00:00:01+00'"],
    "timestamp(3) without time zone": ["'2024-01-01 00:00:01.123'"],
    "time without time zone": ["'00:00'", "'24:00'", "'23:59:59.999999'"],
    "time with time zone": ["'24:00:00-15:59'", "'00:00+15:59'", "'12:34:56.789+05:30'"],
    "interval": [
        "'1 day'",
        "'24:00'",
        "'1 mon -1 day +00:00:01'",
        "'-178000000 years'",
        "'0'",
        "'0.000001 s'",
        "'-1:00'",
    ],
    "interval day to second(2)": ["'1 day 00:00:01.25'"],
    "numeric": [
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "0",
        "0.00",
        "1.10",
        "-1e1000",
        "1e-500",
        "repeat('9', 2000)::numeric",
    ],
    "numeric(10,2)": ["0", "-99999999.99", "99999999.99", "0.01"],
    "numeric(5)": ["0", "-99999"],
    "numeric(38,10)": ["-9999999999999999999999999999.9999999999", "0.0000000001"],
    "numeric(38,38)": ["0.99999999999999999999999999999999999999"],
    "numeric(39,1)": ["99999999999999999999999999999999999999.9", "'NaN'"],
    "money": ["'-92233720368547758.08'", "0", "1.5"],
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "'FFFFFFFF-ffff-ffff-ffff-ffffffffffff'"],
    "json": ['\'{"a":1,"a" : 2,  "b":1.0}\'', "'null'", "' [ ] '", "'\"\\u0041\\n\"'", "'1e1000'"],
    "jsonb": ['\'{"a":1,"a":2,"b":1.0}\'', "'null'", "'[]'", "'\"\\u00fc\"'", "'1.000e2'", "'{\"\": [null, {}]}'"],
    "jsonpath": ["'$.a[*] ? (@ > 1)'", "'strict $'"],
    "xml": [
        "'<a b=\"1\">x &amp; y</a>'",
        "'text only'",
        "''",
        "'<?xml version=\"1.0\"?><a/>'",
        "'<a/><b/>'",
        "'<!-- c -->'",
    ],
    "inet": ["'::'", "'1.2.3.4'", "'1.2.3.4/8'", "'fe80::1/64'", "'0.0.0.0/0'"],
    "cidr": ["'10.0.0.0/8'", "'::/0'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "bit(3)": ["B'101'", "B'000'"],
    "bit varying": ["B''", "B'0000000001'", "repeat('10', 500)::varbit"],
    "point": ["'(1.1,-0)'", "'(NaN,Infinity)'"],
    "line": ["'{1,-1,0.1}'"],
    "lseg": ["'[(0,0),(1,1)]'"],
    "box": ["'(2,2),(0.1,1)'"],
    "path": ["'[(0,0),(1,1)]'", "'((0,0),(1,1),(2,0.3))'"],
    "polygon": ["'((0,0),(1,1),(2,0))'"],
    "circle": ["'<(0.1,0),5>'"],
    "tsvector": ["'a:1A fat:2B,4C ''o''''clock'''", "''"],
    "tsquery": ["'fat & (rat:AB | !cat:*) <2> x'", "''"],
    "oid": ["0", "4294967295"],
    "xid": ["'4294967295'"],
    "xid8": ["'18446744073709551615'"],
    "cid": ["'7'"],
    "tid": ["'(4294967295,65535)'"],
    "pg_lsn": ["'FFFFFFFF/FFFFFFFF'"],
    "pg_snapshot": ["'10:20:10,14'"],
    "txid_snapshot": ["'10:20:10,14'"],
    "int2vector": ["'1 2 3'", "''"],
    "oidvector": ["'1 2'"],
    "integer[]": ["'{}'", "'{NULL,1}'", "'[0:1]={1,2}'", "'[-1:0][2:3]={{1,2},{3,NULL}}'", "'{{{1}}}'"],
    "text[]": [
        "'{}'",
        '\'{"",NULL,"NULL","a,b","{","\\\\","\\"",null}\'',
        "ARRAY[E'a\\nb', ' ', '😀']",
        "ARRAY[['a'],['b']]",
    ],
    "bytea[]": ["ARRAY['\\x00ff'::bytea, ''::bytea]"],
    "double precision[]": ["'{NaN,-0,Infinity,5e-324}'"],
    "numeric(6,2)[]": ["'{1,NaN,-0.01}'"],
    "timestamp with time zone[]": ["'{infinity,-infinity,\"2024-10-27 00:30:00+00\"}'"],
    "date[]": ["'{infinity,\"4713-01-01 BC\",5874897-12-31}'"],
    "interval[]": ["'{1 day,24:00}'"],
    "json[]": ['ARRAY[\'{"a":1,"a":2}\'::json]'],
    "int4range": ["'empty'", "'(,)'", "'[1,)'", "'[-2147483648,5)'"],
    "int8range": ["'[1,9223372036854775807)'"],
    "numrange": ["'[1.0,1.00]'", "'(,NaN)'", "'[-Infinity,5]'"],
    "daterange": ["'[2024-01-01,)'", "'[-infinity,infinity]'"],
    "tsrange": ["'(2024-01-01 00:00,2024-01-02]'"],
    "tstzrange": ["'[2024-10-27 00:30+00,infinity)'", "'empty'"],
    "int4multirange": ["'{}'", "'{[1,2),[5,6)}'", "'{(,)}'"],
    "int8multirange": ["'{[-9223372036854775808,0),[9223372036854775806,)}'"],
    "datemultirange": ["'{[2024-01-01,2024-02-01),[2024-03-01,infinity)}'", "'{}'"],
    "tsmultirange": ["'{(,2024-01-01 00:00],(2024-01-01 00:00:00.000001,)}'"],
    "nummultirange": ["'{[1.10,2.0]}'"],
    "tstzmultirange": ["'{[2024-01-01 00:00+00,)}'"],
    "int4range[]": ["'{empty,\"[1,2)\"}'"],
    'odd."Mood; %s"': ["''", "'so so'", "'it''s \"fine\"'", "'😀'"],
    'odd."Mood; %s"[]': ["ARRAY['', 'so so', NULL]::odd.\"Mood; %s\"[]"],
    "odd.pair": [
        "ROW('', NULL, ROW(E'a\\n\"(,)', 1.00), ARRAY[ROW('x', 0.0)::odd.inner_part, NULL])",
        "ROW(NULL, NULL, NULL, NULL)",
        "ROW('\\', 1, NULL, '{}')",
    ],
    "odd.pair[]": ["ARRAY[ROW('', 1, NULL, NULL)::odd.pair, NULL]"],
    "odd.short_text": ["''", "E'a\\n'"],
    "odd.two_places": ["1", "-0.01"],
    "odd.days": ["'{infinity,NULL}'"],
    "odd.short_text[]": ["'{a,\"\"}'"],
    "odd.citext": ["'MiXed'", "''"],
    "odd.hstore": ['\'a=>1, "b c"=>NULL, ""=>""\'', "''"],
    "odd.ltree": ["'Top.Science'", "''"],
    "odd.lquery": ["'*.Science@*'"],
    "odd.cube": ["'(0.1,2),(3,4)'"],
    "odd.seg": ["'1.00 .. 2'", "'~5.0'"],
    "odd.isbn13": ["'978-0-393-04002-9'"],
}

NEWER: dict[int, dict[str, list[str]]] = {
    15: {"numeric(5,-2)": ["1234567", "-99"], "numeric(3,5)": ["0.00999"]},
    17: {"interval(3)": ["'infinity'", "'-infinity'"]},
}

# Archived as text because the policy says so: values that Parquet's own types cannot hold.
AS_TEXT: dict[str, list[str]] = {
    "date": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "'0001-01-01'"],
    "timestamp without time zone": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31 23:59:59.999999'"],
    "timestamp with time zone": ["'infinity'", "'-infinity'", "'4713-01-01 00:00+00 BC'", "'0044-03-15 12:00+00 BC'"],
    "numeric(8,3)": ["'NaN'", "1"],
    "character(4)": ["'a'", "''"],
    "double precision": ["'-0'", "0.1", "'NaN'"],
    "boolean": ["true", "false"],
    "bytea": ["''", "'\\x00ff'"],
    "bigint": ["'-9223372036854775808'"],
}
