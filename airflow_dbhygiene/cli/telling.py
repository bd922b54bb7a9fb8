"""How commands talk: rows to the standard output, progress and errors to the standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from airflow.cli.simple_table import AirflowConsole
from rich.markup import escape

from airflow_dbhygiene.errors import HygieneError

# Connections that are kept in Airflow's own database are seen by servers only, unless this says that we are one.
os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def show(rows: Iterable[dict[str, Any]], output: str) -> None:
    """Print rows in the form that the user wants: table, json, yaml or plain."""
    told = [{name: _shown(value) for name, value in row.items()} for row in rows]
    if output == "table":  # in which rich takes what stands in brackets for its own: a regular expression, an element
        told = [{name: _escaped(value) for name, value in row.items()} for row in told]
    AirflowConsole().print_as(told, output)


def tell(line: str) -> None:
    """Say how it goes."""
    sys.stderr.write(f"{line}\n")


@contextmanager
def errors_told() -> Iterator[None]:
    """Say what went wrong in one line, in place of a traceback, and exit with 1."""
    try:
        yield
    except HygieneError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    return "" if value is None else value


def _escaped(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_escaped(each) for each in value]
    return escape(str(value))
