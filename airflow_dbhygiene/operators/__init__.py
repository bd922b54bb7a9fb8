"""One operator per step."""

from airflow_dbhygiene.operators.chunk import ArchiveOperator, PurgeOperator, VerifyOperator
from airflow_dbhygiene.operators.hold import HoldOperator, PauseOperator, ReleaseHoldOperator, ResumeOperator
from airflow_dbhygiene.operators.plan import PlanOperator
from airflow_dbhygiene.operators.restore import RestoreOperator
from airflow_dbhygiene.operators.run import ReclaimOperator, ReportOperator, policy_asset
from airflow_dbhygiene.operators.verify_archive import VerifyArchiveOperator

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
    "VerifyArchiveOperator",
    "VerifyOperator",
    "policy_asset",
]
