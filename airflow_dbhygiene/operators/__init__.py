"""One operator per step."""

from airflow_dbhygiene.operators.chunk import ArchiveOperator, PurgeOperator, VerifyOperator
from airflow_dbhygiene.operators.hold import HoldOperator, PauseOperator, ReleaseHoldOperator, ResumeOperator
from airflow_dbhygiene.operators.plan import PlanOperator
from airflow_dbhygiene.operators.restore import RestoreOperator
from airflow_dbhygiene.operators.run import ReclaimOperator, ReportOperator, policy_asset

__all__ = [
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
    "VerifyOperator",
    "policy_asset",
]
