"""Which commands there are. Airflow loads this for every command of its own: it imports nothing of ours."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ActionCommand,
    CLICommand,
    GroupCommand,
    lazy_load_command,
)
from airflow.cli.cli_config import Arg as _Arg

Arg: Any = _Arg  # it carries no types

_CONN_ID = Arg(("--conn-id",), help="Airflow connection of the database", required=True)
_BY = Arg(("--by",), help="who wants it (default: your login name)")
_REASON = Arg(("--reason",), help="why: whoever looks at the ledger, or waits, reads it", required=True)
_TABLE = Arg(("--table",), help="schema.table, as the catalogue spells it")
_HOLD_ID = Arg(("hold_id",), help="the hold's id")
_SCOPE = Arg(("scope",), help="all, table:<schema.table> or policy:<name>")
_RUN_ID = Arg(("run",), help="the run's id")
_RUN = Arg(("--run",), help="the id of one run")
_POLICY = Arg(("--policy",), help="name of a policy: all its runs")
_LIMIT = Arg(("--limit",), type=int, default=20, help="how many (default: 20)")
_KEY = Arg(("--key",), action="append", help="a primary key's value, or values as a JSON list; may be repeated")
_KEYS_FROM = Arg(("--keys-from",), help="a file with a key a line; - reads the standard input")
_RESTORE = (
    Arg(("--chunks",), help="these chunks: 3 or 2-5 (default: all)"),
    Arg(("--where",), help="one boolean SQL expression over the archived columns (default: all rows)"),
    Arg(("--into",), help="schema.table (default: the table that they came from)"),
    Arg(("--execute",), action="store_true", help="put them back; without it they are counted, and nothing is changed"),
)
_COMMON = (_CONN_ID, ARG_OUTPUT, ARG_VERBOSE)


def get_commands() -> list[CLICommand]:
    """Give Airflow the group ``dbhygiene``."""
    return [
        GroupCommand(
            name="dbhygiene",
            help="Holds, pauses, runs, restores and archives of database hygiene",
            subcommands=[
                GroupCommand(name="hold", help="Legal holds: rows that no purge may delete", subcommands=_HOLDS),
                _action("pause", "Stop every purge of a scope within one batch", _SCOPE, _REASON, _BY),
                _action("resume", "Let a scope go on where it stopped", _SCOPE),
                _action("pauses", "List the pauses that stand"),
                _action("runs", "List the latest runs", _POLICY, _LIMIT),
                _action("abandon", "Give a run up for good, so that nothing waits for it", _RUN_ID, _REASON, _BY),
                _action("restore", "Put rows of a run back: a dry run, until --execute", _RUN_ID, *_RESTORE, _BY),
                _action(
                    "erase",
                    "Take rows out of a policy's archives, and certify it",
                    Arg(("--policy",), help="name of the policy that archived them", required=True),
                    _REASON,
                    _KEY,
                    _KEYS_FROM,
                    _BY,
                ),
                ActionCommand(
                    name="verify-archive",
                    help="Read a run's archive, or a policy's whole chain, back: exits with 1 if anything is altered",
                    func=lazy_load_command("airflow_dbhygiene.cli.verify_archive.verify_archive"),
                    args=(
                        Arg(("--conn-id",), help="Airflow connection of the database, for --run and --policy"),
                        _RUN,
                        _POLICY,
                        Arg(
                            ("--url",),
                            help="the archive alone, when its ledger is gone: a url, or connection@schema.table",
                        ),
                        Arg(("--sha256",), help="with --url: digest of a certificate that must be there"),
                        ARG_OUTPUT,
                        ARG_VERBOSE,
                    ),
                ),
            ],
        )
    ]


def _action(name: str, told: str, *arguments: Any, group: str = "") -> ActionCommand:
    function = f"{group}_{name}" if group else name
    return ActionCommand(
        name=name,
        help=told,
        func=lazy_load_command(f"airflow_dbhygiene.cli.commands.{function.replace('-', '_')}"),
        args=(*arguments, *_COMMON),
    )


_HOLDS = (
    _action(
        "place",
        "Protect rows by a condition or by their keys, from the next batch on",
        Arg(("--table",), help="schema.table, as the catalogue spells it", required=True),
        _REASON,
        Arg(("--where",), help="one boolean SQL expression over the table's columns"),
        _KEY,
        _KEYS_FROM,
        Arg(("--until",), help="when it ends by itself, in ISO 8601 (default: when it is released)"),
        Arg(("--id",), help="what to release it by (default: made up)"),
        _BY,
        group="hold",
    ),
    _action(
        "list",
        "List the holds that bind",
        _TABLE,
        Arg(("--released",), action="store_true", help="also those that are released or over"),
        group="hold",
    ),
    _action("release", "End a hold", _HOLD_ID, _BY, group="hold"),
)
