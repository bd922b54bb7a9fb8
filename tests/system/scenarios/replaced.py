"""Runs whose database server is replaced by another while their chunks are under way."""

from staging import impatient, stage

from airflow_dbhygiene import Pace, hygiene_dag

# Ten batches a chunk, and some time from one to the next.
slow = Pace(max_batch_rows=100, rest_fraction=40)

for name in ("failed_over", "put_back"):
    policy = stage(name, conn_id="fragile_pg", pace=slow)
    hygiene_dag(policy, **impatient(policy, retries=30, retry_exponential_backoff=False))
