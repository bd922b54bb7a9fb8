"""The audit trail, in the database that is cleaned."""

from airflow_dbhygiene.ledger.ledger import Ledger
from airflow_dbhygiene.ledger.migrations import migrate
from airflow_dbhygiene.ledger.records import Chunk, ObjectReceipt, Run

__all__ = ["Chunk", "Ledger", "ObjectReceipt", "Run", "migrate"]
