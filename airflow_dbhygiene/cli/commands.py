"""What the commands do: call one step, and print its answer. A command that fails exits with 1 and says why."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.utils.cli import suppress_logs_and_warning

from airflow_dbhygiene.cli.telling import errors_told, show, tell
from airflow_dbhygiene.connections import open_site
from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.operators.moments import parse_moment
from airflow_dbhygiene.operators.restore import parse_chunks
from airflow_dbhygiene.steps.abandon import abandon as abandon_run
from airflow_dbhygiene.steps.erase import ErasureWish
from airflow_dbhygiene.steps.erase import erase as erase_rows
from airflow_dbhygiene.steps.hold import HoldWish, list_holds, parse_keys, place_hold, release_hold
from airflow_dbhygiene.steps.pause import list_pauses
from airflow_dbhygiene.steps.pause import pause as pause_scope
from airflow_dbhygiene.steps.pause import resume as resume_scope
from airflow_dbhygiene.steps.restore import Wish
from airflow_dbhygiene.steps.restore import restore as restore_rows
from airflow_dbhygiene.steps.runs import list_runs

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_dbhygiene.ledger.holds import Hold
    from airflow_dbhygiene.steps.site import Site


def _command(command: Callable[[Namespace, Site], Iterable[dict[str, Any]]]) -> Callable[[Namespace], None]:
    """Open the site, run the command, print its rows."""

    @suppress_logs_and_warning
    def run(args: Namespace) -> None:
        with errors_told():
            rows = list(command(args, open_site(args.conn_id, tell)))
        show(rows, args.output)

    return run


@_command
def hold_place(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """Place a hold."""
    lines = [*(args.key or ()), *_lines(args.keys_from)]
    until = parse_moment(args.until, "until")
    wish = HoldWish(args.table, args.reason, _who(args), args.where, parse_keys(lines), until, args.id)
    placed = place_hold(site, wish)
    yield {**_hold(placed.hold), "rows_now": "unknown" if placed.rows is None else placed.rows}


@_command
def hold_list(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """List holds."""
    return map(_hold, list_holds(site, args.table, released=args.released))


@_command
def hold_release(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """End a hold."""
    yield _hold(release_hold(site, args.hold_id, _who(args)))


@_command
def erase(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """Erase rows from archives."""
    keys = parse_keys([*(args.key or ()), *_lines(args.keys_from)])
    erased = erase_rows(site, ErasureWish(args.policy, keys, args.reason, _who(args)))
    yield {
        "policy": args.policy,
        "keys": len(keys),
        "rows_erased": erased.rows,
        "keys_in_no_archive": [key[0] if len(key) == 1 else key for key in erased.unknown],
        "keys_under_hold": [key[0] if len(key) == 1 else key for key in erased.held],
    }


@_command
def abandon(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """Give a run up."""
    told = abandon_run(site, args.run, args.reason, _who(args))
    names = ("rows_archived", "rows_purged", "rows_left", "objects_discarded", "certificate")
    yield {"run": told["run"], "state": told["state"], **told["abandonment"], **{name: told[name] for name in names}}


@_command
def restore(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """Put rows of a run back, or count what would come back."""
    restore_id = f"{_who(args)}-{os.urandom(5).hex()}"
    if args.chunks == "":
        raise PolicyInvalid("--chunks is empty: write '3' or '2-5', or leave it out for all.")
    wish = Wish(args.run, restore_id, parse_chunks(args.chunks), args.where, args.into, dry_run=not args.execute)
    came = restore_rows(site, wish)
    if wish.dry_run:
        tell("This was a dry run, nothing was changed: --execute puts the rows back.")
    yield {"run": args.run, "dry_run": wish.dry_run, "restored": came.restored, "existing": came.existing}


@_command
def pause(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """Pause a scope."""
    yield asdict(pause_scope(site, args.scope, args.reason, _who(args)))


@_command
def resume(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """Let a scope go on."""
    yield {"scope": resume_scope(site, args.scope), "state": "goes on"}


@_command
def pauses(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:  # noqa: ARG001 - a command's signature
    """List pauses."""
    return map(asdict, list_pauses(site))


@_command
def runs(args: Namespace, site: Site) -> Iterable[dict[str, Any]]:
    """List runs."""
    return map(asdict, list_runs(site, args.policy, args.limit))


def _lines(place: str | None) -> Sequence[str]:
    if place is None:
        return ()
    try:
        return (sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyInvalid(f"--keys-from {place!r} cannot be read: {error}.") from None


def _who(args: Namespace) -> str:
    return str(args.by or getpass.getuser())


def _hold(hold: Hold) -> dict[str, Any]:
    return asdict(hold)
