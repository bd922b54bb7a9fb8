"""``airflow dbhygiene verify-archive``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow.utils.cli import suppress_logs_and_warning

from airflow_dbhygiene.cli.telling import errors_told, show, tell
from airflow_dbhygiene.connections import open_archive, open_site
from airflow_dbhygiene.errors import PolicyInvalid
from airflow_dbhygiene.steps.verify_archive import Verified, verify_store
from airflow_dbhygiene.steps.verify_archive import verify_archive as verify

if TYPE_CHECKING:
    from argparse import Namespace


@suppress_logs_and_warning
def verify_archive(args: Namespace) -> None:
    """Print every fault there is, and exit with 1 if there is one."""
    with errors_told():
        found = _verified(args)
    tell(found.describe().splitlines()[0])
    if found.findings:
        show(map(asdict, found.findings), args.output)
        raise SystemExit(1)


def _verified(args: Namespace) -> Verified:
    if [bool(args.run), bool(args.policy), bool(args.url)].count(True) != 1:
        raise PolicyInvalid("say what to verify: --run, --policy or --url.")
    if args.url:
        return verify_store(open_archive(args.url, args.conn_id), args.sha256)
    if not args.conn_id:
        raise PolicyInvalid("--run and --policy are looked up in a ledger: name its connection with --conn-id.")
    return verify(open_site(args.conn_id, tell), policy=args.policy, run_id=args.run)
