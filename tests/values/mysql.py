"""Every type of MariaDB and MySQL with its edge values, as SQL; NULL stands for itself and is in none of the lists."""

from __future__ import annotations

INTEGERS = {
    f"{kind}{sign}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not sign else (0, 2**bits - 1)
    for kind, bits in (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64))
    for sign in ("", " unsigned")
}
TEXTS = (
    "X'411F421F'",
    "''",
    "'plain'",
    r"'line\nbreak\n'",
    r"'back\\slash\ttab\r'",
    '\'"quoted", "\'',
    "','",
    "'trailing  '",
    "'😀é'",
)
BYTES = ("''", "X'00'", "X'0D0A2C22'", "X'FFFE00'")

COLUMNS: dict[str, tuple[str, ...]] = {
    **{kind: tuple(map(str, (*edges, 0))) for kind, edges in INTEGERS.items()},
    "int(5) unsigned zerofill": ("0", "42"),
    "bool": ("0", "1"),
    "decimal(10,3)": ("0", "-9999999.999", "9999999.999", "0.001"),
    "decimal(38,10)": ("1.0000000001", "-9999999999999999999999999999.9999999999"),
    "decimal(65,30)": (f"{'9' * 35}.{'9' * 30}", f"-{'9' * 35}.{'9' * 30}", "0.000000000000000000000000000001"),
    "decimal(5,5)": ("0.99999", "-0.00001"),
    "float": ("1.0000001", "1.0000002", "16777217", "3.40282346e38", "-1.17549435e-38", "0.1"),
    "float(7,3)": ("1234.567", "-0.001"),
    "double": ("0.1", "0.30000000000000004", "1.7976931348623157e308", "4.9e-324", "-2.2250738585072014e-308", "1e15"),
    "double(10,3)": ("1234567.891", "0.001"),
    "bit(1)": ("b'0'", "b'1'"),
    "bit(64)": ("0", "18446744073709551615", "b'101'"),
    "date": ("'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'0001-01-01'"),
    "datetime": ("'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2013-03-31 02:30:00'"),
    "datetime(6)": ("'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'"),
    "timestamp": ("'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2013-10-27 01:30:00'"),
    "timestamp(6)": ("'1970-01-01 00:00:01.000001'", "'2013-03-31 02:30:00.5'"),
    "time": ("'-838:59:59'", "'838:59:59'", "'24:00:00'", "'00:00:00'"),
    "time(6)": ("'-00:00:00.000001'", "'838:59:58.999999'"),
    "year": ("'0000'", "1901", "2000", "2155"),
    "char(20)": TEXTS,
    "varchar(50)": TEXTS,
    "tinytext": TEXTS,
    "text": (*TEXTS, "repeat('x\\ny,\"', 10000)"),
    "mediumtext": (*TEXTS, "repeat('\"', 200000)"),
    "longtext": (*TEXTS, "repeat('long ', 100000)"),
    "varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin": TEXTS,
    "varchar(50) CHARACTER SET utf8mb3": ("''", "'é€'"),
    "varchar(50) CHARACTER SET ascii": ("''", "'~ a'"),
    "varchar(50) CHARACTER SET latin1": ("''", "'é€ÿ'", "X'80818D8F909D9F'"),
    "varchar(50) CHARACTER SET sjis": ("_sjis X'82A0835C'", "''"),
    "varchar(50) CHARACTER SET gbk": ("'漢字'",),
    "varchar(50) CHARACTER SET ucs2": ("'é漢'",),
    "varchar(50) CHARACTER SET utf16": ("'😀é'",),
    "char(5) CHARACTER SET utf32": ("'😀é '",),
    "varchar(50) CHARACTER SET koi8r": ("'Ж\"'",),
    "binary(4)": ("X'00'", "X'41200000'", "X'FFFFFFFF'"),
    "varbinary(50)": BYTES,
    "tinyblob": BYTES,
    "blob": BYTES,
    "mediumblob": BYTES,
    "longblob": (*BYTES, "repeat(X'000D0A22', 100000)"),
    "enum('a','b''c','d,e','é')": ("'a'", "'b''c'", "'d,e'", "'é'"),
    "set('x','y','z z')": ("''", "'x'", "'x,y,z z'"),
    "enum('ä','ö') CHARACTER SET latin1": ("'ä'", "'ö'"),
    "json": ("""'{"a": [1, 2.5, null, "é", {"b": ""}]}'""", "'[]'", "'null'", "'12345678901234567890'", "'1e100'"),
    "geometry": (
        "st_geomfromtext('POINT(1 2)')",
        "st_geomfromtext('POLYGON((0 0,1 0,1 1,0 0))')",
        "st_geomfromtext('POINT(1 2)', 4326)",
    ),
    "point": ("st_geomfromtext('POINT(0 0)')",),
    "linestring": ("st_geomfromtext('LINESTRING(0 0,1.5 -1e300)')",),
    "polygon": ("st_geomfromtext('POLYGON((0 0,9 0,9 9,0 0),(2 1,3 1,3 2,2 1))')",),
    "multipoint": ("st_geomfromtext('MULTIPOINT(0 0,1 1)')",),
    "multilinestring": ("st_geomfromtext('MULTILINESTRING((0 0,1 1),(2 2,3 3))')",),
    "multipolygon": ("st_geomfromtext('MULTIPOLYGON(((0 0,1 0,1 1,0 0)))')",),
    "geometrycollection": ("st_geomfromtext('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))')",),
}
MARIADB = {
    "uuid": ("'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'"),
    "inet6": ("'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'"),
    "inet4": ("'192.0.2.1'", "'0.0.0.0'"),
    "varchar(100) COMPRESSED": TEXTS,
}
MYSQL = {"vector(3)": ("to_vector('[1,2,3.5]')",)}


def columns_of(flavour: str) -> dict[str, tuple[str, ...]]:
    """Give the types that a server has, with their edge values."""
    return COLUMNS | (MARIADB if flavour == "mariadb" else MYSQL)
