"""A purge that is paused for longer than its policy allows a worker to wait."""

from staging import stage

from airflow_dbhygiene import Pace, hygiene_dag
from airflow_dbhygiene.operators import chunk

chunk._WAKE_SECONDS = (2.0, 8.0)  # in place of minutes

# Ten batches a chunk, and about a second from one to the next.
slow = Pace(max_batch_rows=100, rest_fraction=60, max_pause_seconds=0.5)
hygiene_dag(stage("patient", pace=slow), retries=0, pool="hygiene_month_pg")
hygiene_dag(stage("tired", pace=Pace(max_pause_seconds=0.5, max_idle_seconds=10)), retries=0, pool="hygiene_month_pg")
