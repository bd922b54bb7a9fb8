"""Load what steps need in the process that tasks are forked from, so that each task begins at once.

Two lines in ``airflow_local_settings.py`` do it::

    from airflow_dbhygiene.preload import preload

    preload()
"""

from __future__ import annotations

import pkgutil
import sys
from contextlib import suppress
from importlib import import_module
from typing import Final

import airflow_dbhygiene

_FORKS_TASKS: Final = frozenset({"scheduler", "worker"})
"""Airflow's commands that do: the LocalExecutor lives in the scheduler, the CeleryExecutor's tasks in its workers."""

_LOADED_LATE: Final = (
    "MySQLdb",
    "adbc_driver_postgresql.dbapi",
    "airflow.providers.amazon.aws.fs.s3",
    "airflow.providers.mysql.hooks.mysql",
    "airflow.providers.postgres.hooks.postgres",
    "s3fs",
    "upath.implementations.cloud",
)
"""What our modules load where they need it. Which of them there are depends on the extras that are installed."""


def preload() -> None:
    """Load all modules of the package and its drivers (1 s, 120 MB, shared by all tasks), where tasks are forked.

    In other processes of Airflow, which read the same settings, it does nothing. A module that cannot be loaded is left
    to the task that needs it, which says so.
    """
    if _FORKS_TASKS.isdisjoint(sys.argv):
        return
    own = (module.name for module in pkgutil.walk_packages(airflow_dbhygiene.__path__, "airflow_dbhygiene."))
    for name in (*own, *_LOADED_LATE):
        with suppress(Exception):  # whatever it is, the scheduler must start
            import_module(name)
