"""Policy and its parts."""

from airflow_dbhygiene.policy.archive import ColdTable, Discard, Encryption, ObjectLock, Parquet
from airflow_dbhygiene.policy.files import PolicyEntry, json_schema, load_file, load_folder
from airflow_dbhygiene.policy.model import Guard, Notify, Pace, Policy
from airflow_dbhygiene.policy.names import TableName
from airflow_dbhygiene.policy.stale import Expired, Matching, OlderThan

__all__ = [
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
    "PolicyEntry",
    "TableName",
    "json_schema",
    "load_file",
    "load_folder",
]
