"""Which PostgreSQL types survive an archive, and in which form."""

from __future__ import annotations

from dataclasses import dataclass

NATIVE = frozenset("bool int2 int4 int8 float4 float8 text varchar bpchar bytea date timestamp timestamptz".split())
"""Arrow's own type holds every value; infinite dates are looked for while reading."""

TEXT = NATIVE | frozenset(
    "numeric uuid json jsonb xml time timetz interval money inet cidr macaddr macaddr8 bit varbit point line lseg box "
    "path polygon circle tsvector tsquery oid xid xid8 cid tid pg_lsn name char int2vector oidvector jsonpath "
    "txid_snapshot pg_snapshot".split()
)
"""The server's text form, read back by the server, gives the same value under our settings."""

TEXT_EXTENSIONS = frozenset(
    "citext hstore ltree lquery ltxtquery geometry geography vector halfvec sparsevec cube seg isbn isbn13 ean13 issn "
    "semver".split()
)
"""The same, of types that extensions bring."""

_MOST_DIGITS = 38  # of Arrow's decimal128


@dataclass(frozen=True)
class TypeFact:
    """A type: its name, pg_type.typtype ("A" for an array), and whether PostgreSQL itself brings it."""

    name: str
    kind: str
    builtin: bool


def form_of(roots: tuple[TypeFact, ...], precision: int | None, scale: int | None) -> str | None:
    """Give the archive's form for a column, or None when its values could not come back equal.

    :param roots: the column's type first, then all that it is made of
    :param precision: digits of a numeric, None when unlimited
    :param scale: digits after the point of a numeric
    """
    first = roots[0]
    if first.builtin and first.kind == "b" and first.name in NATIVE:
        return "native"
    if first.builtin and first.name == "numeric" and precision and precision <= _MOST_DIGITS and (scale or 0) >= 0:
        return "decimal" if (scale or 0) <= precision else "text"
    return "text" if all(_writable(fact) for fact in roots) else None


def _writable(fact: TypeFact) -> bool:
    if fact.kind in "cdermA":
        return True  # made of other types, which are looked at themselves; an enum is its label
    return fact.name in (TEXT if fact.builtin else TEXT_EXTENSIONS)
