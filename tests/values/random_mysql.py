"""Types of MariaDB and MySQL with parameters, and values made at random beside those at the edge."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from hypothesis import strategies as st

from tests.values.made import NAMES, Draw, Kind, Table, tables
from tests.values.mysql import INTEGERS, columns_of

AGES: Final = {
    "timestamp": "'{text}'",
    "datetime": "'{text}'",
    "datetime(6)": "'{text}'",
    "date": "'{day}'",
    "bigint": "{seconds}",
}
COMPUTED: Final = (
    "varchar(32) GENERATED ALWAYS AS (concat({n}, ';')) STORED",
    "decimal(20, 4) GENERATED ALWAYS AS ({n} / 7.00) VIRTUAL",
    "varchar(20) DEFAULT 'by default' INVISIBLE",
    "timestamp(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)",
)
NO_KEY: Final = ("text", "blob", "json", "geometry", "point", "linestring", "polygon", "vector", "COMPRESSED")
"""Words of types that no primary key can hold whole."""

COLLATIONS: Final = (
    *("utf8mb4 COLLATE utf8mb4_general_ci", "utf8mb4 COLLATE utf8mb4_unicode_ci", "utf8mb4 COLLATE utf8mb4_bin"),
    *("utf8mb4 COLLATE utf8mb4_swedish_ci", "utf8mb4 COLLATE utf8mb4_turkish_ci", "utf8mb3 COLLATE utf8mb3_bin"),
    *("latin1 COLLATE latin1_swedish_ci", "latin1 COLLATE latin1_german2_ci", "latin1 COLLATE latin1_bin"),
    *("ascii COLLATE ascii_general_ci", "binary", "utf16 COLLATE utf16_general_ci", "utf32 COLLATE utf32_bin"),
    *("cp1251 COLLATE cp1251_general_ci", "koi8r COLLATE koi8r_bin", "big5 COLLATE big5_chinese_ci"),
    *("sjis COLLATE sjis_japanese_ci", "ucs2 COLLATE ucs2_general_ci", "hebrew COLLATE hebrew_bin"),
)
_ALPHABETS: Final = {
    "utf8mb4": "aAäÄßéÉ \t\n\\'\"😀漢\x1f,",
    "utf8mb3": "aAäÄßé \t\n\\'\"漢\x1f,",
    "utf16": "aAä 😀漢\x1f'",
    "utf32": "aAä 😀漢\x1f'",
    "ucs2": "aAä 漢\x1f'",
    "latin1": "aAäÄß€ \x1f'\"",
    "cp1251": "aAжЖ '",
    "koi8r": "aAжЖ '",
    "hebrew": "aAאב '",
    "big5": "aA漢 '",
    "sjis": "aA漢あ '",
}
_ASCII: Final = "aAbB \t\n\\'\"\x1f,;"


def _written(text: str) -> str:
    """Write text as a value that no mode of the server can misread."""
    return f"CONVERT(X'{text.encode().hex()}' USING utf8mb4)"


def _octets(value: bytes) -> str:
    return f"X'{value.hex()}'"


@st.composite
def _with_parameters(draw: Draw) -> Kind:
    """Make a type that takes parameters: digits, characters and their set, fractions of a second."""
    n = draw(st.integers(1, 9))
    word = draw(st.sampled_from("decimal varchar char varbinary binary bit datetime timestamp time enum set".split()))
    if word == "decimal":
        digits = draw(st.integers(1, 65))
        scale = draw(st.integers(0, min(digits, 30)))
        unsigned = draw(st.sampled_from(("", " unsigned")))
        whole = st.integers(0 if unsigned else -(10**digits) + 1, 10**digits - 1)
        return Kind(f"decimal({digits}, {scale}){unsigned}", whole.map(lambda value: _decimal(value, scale)))
    if word in ("varchar", "char"):
        charset = draw(st.sampled_from(COLLATIONS))
        letters = st.sampled_from(_ALPHABETS.get(charset.split()[0], _ASCII))
        return Kind(f"{word}({n}) CHARACTER SET {charset}", st.text(letters, max_size=n).map(_written))
    if word in ("varbinary", "binary"):
        return Kind(f"{word}({n})", st.binary(max_size=n).map(_octets))
    if word == "bit":
        return Kind(f"bit({7 * n})", st.integers(0, 2 ** (7 * n) - 1).map(str))
    if word in ("enum", "set"):
        labels = draw(
            st.lists(st.sampled_from(("a", "B", "c d", "é", "it''s", '"', "\\\\", "😀")), min_size=1, unique=True)
        )
        return Kind(f"{word}({', '.join(map(chr(39).join, (('', each, '') for each in labels)))})",
                    st.sampled_from([f"'{each}'" for each in labels]), key=False)  # fmt: skip
    return _moments(word, n % 7)


def _moments(word: str, places: int) -> Kind:
    spans = {"datetime": (1000, 9998), "timestamp": (1971, 2037)}
    if word == "time":
        seconds = st.integers(-3_020_398, 3_020_398)
        values = seconds.map(
            lambda all_: f"'{'-' * (all_ < 0)}{abs(all_) // 3600:02}:{abs(all_) // 60 % 60:02}:{abs(all_) % 60:02}.5'"
        )
        return Kind(f"time({places})", values)
    first, last = spans[word]
    moments = st.datetimes(datetime(first, 1, 1), datetime(last, 1, 1))  # noqa: DTZ001 - the server gives them a zone
    return Kind(f"{word}({places})", moments.map("'{}'".format))


def _decimal(value: int, scale: int) -> str:
    digits = f"{abs(value):0{scale + 1}}"
    return f"{'-' * (value < 0)}{digits[: len(digits) - scale]}.{digits[len(digits) - scale :]}0"


_CHARACTERS: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_TEXTS: Final = st.text(_CHARACTERS, max_size=12)
_SCALARS: Final = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e300, 1e300) | _TEXTS
_PARTS: Final = _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(_TEXTS, _SCALARS, max_size=3)
_JSON: Final = (_PARTS | st.lists(_PARTS, max_size=3) | st.dictionaries(_TEXTS, _PARTS, max_size=3)).map(
    lambda value: _written(json.dumps(value, ensure_ascii=False))
)

# The random values of types without parameters; the others have their edge values alone.
_RANDOM: Final[dict[str, st.SearchStrategy[str]]] = {
    **{kind: st.integers(*edges).map(str) for kind, edges in INTEGERS.items()},
    "float": st.floats(-(2.0**126), 2.0**126, width=32).map(repr),
    "double": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "text": _TEXTS.map(_written),
    "longtext": _TEXTS.map(_written),
    "blob": st.binary(max_size=12).map(_octets),
    "json": _JSON,
    "uuid": st.uuids(version=4).map("'{}'".format),
    "inet6": st.ip_addresses(v=6).map("'{}'".format),
    "year": st.integers(1901, 2155).map(str),
    "date": st.dates().map("'{:%Y-%m-%d}'".format).filter(lambda text: text > "'1"),
}


def _kinds(flavour: str) -> list[st.SearchStrategy[Kind]]:
    types = columns_of(flavour)
    plain = []
    for kind, edges in types.items():
        small = st.sampled_from([edge for edge in edges if "repeat(" not in edge])
        plain.append(Kind(kind, small | _RANDOM[kind] if kind in _RANDOM else small, key=not _keyless(kind)))
    return [st.sampled_from(plain), _with_parameters()]


def _keyless(kind: str) -> bool:
    return any(word in kind for word in NO_KEY)


_LETTERS: Final = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0")
_NAMES: Final = st.sampled_from(NAMES) | st.text(_LETTERS, min_size=1, max_size=12).filter(
    lambda name: name == name.rstrip()
)


def made_tables(flavour: str) -> st.SearchStrategy[Table]:
    """Make tables of MariaDB or MySQL."""
    return tables(st.one_of(_kinds(flavour)), AGES, COMPUTED, _NAMES)
