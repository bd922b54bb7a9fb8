"""The page of types says what the code does with each of them, and knows all that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_dbhygiene.databases.mysql import types as mysql
from airflow_dbhygiene.databases.postgres import rows as postgres_rows
from airflow_dbhygiene.databases.postgres import types as postgres
from airflow_dbhygiene.databases.protocol import Column

PAGE = (Path(__file__).resolve().parents[2] / "docs/types.md").read_text()
SHORT = {
    "bool": ("boolean",), "int2": ("smallint",), "int4": ("integer",), "int8": ("bigint",), "float4": ("real",),
    "float8": ("double precision",), "varchar": ("character varying",), "bpchar": ("character",),
    "timestamp": ("timestamp without time zone",), "timestamptz": ("timestamp with time zone",),
}  # fmt: skip
LONG = {told: short for short, (told,) in SHORT.items()}


def told(engine: str) -> list[tuple[str, str, str]]:
    """Give type, form and Arrow type of every type in an engine's table."""
    table = PAGE.split(f"<!-- types of {engine} -->\n")[1].split("<!-- end of")[0]
    found = []
    for line in table.splitlines()[2:]:
        types, form, arrow = (cell.strip() for cell in line.strip("|").split("|"))
        found += [(name, form, arrow) for name in re.findall(r"`([^`]+)`", types)]
    return found


@pytest.mark.parametrize(("name", "form", "arrow"), told("mysql"))
def test_mysql(name: str, form: str, arrow: str) -> None:
    """Form and Arrow type are those that a column of this type has."""
    spelled = {"bool": "tinyint(1)", "enum": "enum('a')", "set": "set('a')"}.get(name, name)
    textual = mysql.kind_of(Column("c", spelled, "native")) in mysql.CHARACTERS | mysql.LABELS
    if textual and "CHARACTER SET" not in spelled:
        spelled += " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    found = mysql.form_of(Column("c", spelled, "native"))
    assert (found or "refused") == form
    assert not found or str(mysql.arrow_type(Column("c", spelled, found))) == arrow


@pytest.mark.parametrize(("name", "form", "arrow"), told("postgresql"))
def test_postgresql(name: str, form: str, arrow: str) -> None:
    """Form and Arrow type are those that a column of this type has."""
    plain, _, digits = name.partition("(")
    precision, scale = map(int, digits.rstrip(")").split(",")) if digits else (None, None)
    extension = plain in postgres.TEXT_EXTENSIONS
    fact = postgres.TypeFact(LONG.get(plain, plain), "b", not extension)
    found = postgres.form_of((fact,), precision, scale)
    assert (found or "refused") == form
    assert not found or str(postgres_rows.arrow_type(Column("c", name, found))) == arrow


def test_no_type_is_missing() -> None:
    """All types of the code are on the page."""
    of_mysql = mysql.NUMBERS | mysql.MOMENTS | mysql.CHARACTERS | mysql.BYTES | mysql.SHAPES | mysql.LABELS
    words = {re.split(r"\W", name)[0] for name, _, _ in told("mysql")}
    assert (of_mysql | mysql.WRITTEN) - words == set()
    names = {name for name, _, _ in told("postgresql")} | {"char"}
    of_postgres = {(SHORT.get(name) or (name,))[0] for name in postgres.TEXT | postgres.TEXT_EXTENSIONS}
    assert of_postgres - names == set()
