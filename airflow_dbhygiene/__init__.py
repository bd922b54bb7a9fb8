"""Archives, verifies and purges stale database rows without disturbing the traffic: an Apache Airflow provider.

``Policy`` says what is stale, ``hygiene_dag`` makes a DAG of it. Names are loaded when they are first used, so that a
DAG file pays only for what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_dbhygiene.dag import dags_from_folder, hygiene_dag, hygiene_task_group, restore_task_group
    from airflow_dbhygiene.operators import (
        ArchiveOperator,
        HoldOperator,
        PauseOperator,
        PlanOperator,
        PurgeOperator,
        ReclaimOperator,
        ReleaseHoldOperator,
        ReportOperator,
        RestoreOperator,
        ResumeOperator,
        VerifyArchiveOperator,
        VerifyOperator,
        policy_asset,
    )
    from airflow_dbhygiene.policy import (
        ColdTable,
        Discard,
        Encryption,
        Expired,
        Guard,
        Matching,
        Notify,
        ObjectLock,
        OlderThan,
        Pace,
        Parquet,
        Policy,
    )
    from airflow_dbhygiene.sensors import ClutterSensor
    from airflow_dbhygiene.version import VERSION as __version__  # noqa: N811 - Python's own name for it

_HOMES = {
    "airflow_dbhygiene.dag": ("dags_from_folder", "hygiene_dag", "hygiene_task_group", "restore_task_group"),
    "airflow_dbhygiene.operators": (
        "ArchiveOperator",
        "HoldOperator",
        "PauseOperator",
        "PlanOperator",
        "PurgeOperator",
        "ReclaimOperator",
        "ReleaseHoldOperator",
        "ReportOperator",
        "RestoreOperator",
        "ResumeOperator",
        "VerifyArchiveOperator",
        "VerifyOperator",
        "policy_asset",
    ),
    "airflow_dbhygiene.policy": (
        "ColdTable",
        "Discard",
        "Encryption",
        "Expired",
        "Guard",
        "Matching",
        "Notify",
        "ObjectLock",
        "OlderThan",
        "Pace",
        "Parquet",
        "Policy",
    ),
    "airflow_dbhygiene.sensors": ("ClutterSensor",),
}

__all__ = [
    "ArchiveOperator",
    "ClutterSensor",
    "ColdTable",
    "Discard",
    "Encryption",
    "Expired",
    "Guard",
    "HoldOperator",
    "Matching",
    "Notify",
    "ObjectLock",
    "OlderThan",
    "Pace",
    "Parquet",
    "PauseOperator",
    "PlanOperator",
    "Policy",
    "PurgeOperator",
    "ReclaimOperator",
    "ReleaseHoldOperator",
    "ReportOperator",
    "RestoreOperator",
    "ResumeOperator",
    "VerifyArchiveOperator",
    "VerifyOperator",
    "__version__",
    "dags_from_folder",
    "hygiene_dag",
    "hygiene_task_group",
    "policy_asset",
    "restore_task_group",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name == "__version__":
        return importlib.import_module("airflow_dbhygiene.version").VERSION
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name them before they are loaded: a shell completes what stands here."""
    return sorted({*globals(), *__all__})
