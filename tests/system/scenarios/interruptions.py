"""Runs whose tasks are killed, or find the database down."""

from staging import impatient, stage

from airflow_dbhygiene import Guard, OlderThan, Pace, hygiene_dag

WHOLE = Guard(max_fraction=1)
# A switch in the database makes this condition slow for one step or the other.
lazy = OlderThan("at", keep="90 days", where="lazy.tick(id) = 1")

hygiene_dag(stage("lazy", stale=lazy, guard=WHOLE), retries=0)

slow = Pace(max_batch_rows=100, rest_fraction=2)
battered = stage("battered", guard=Guard(max_fraction=1, min_chunk_rows=10_000), pace=slow)
hygiene_dag(battered, **impatient(battered, retries=20, retry_exponential_backoff=False))

unreachable = stage("unreachable", conn_id="fragile_pg")
hygiene_dag(unreachable, **impatient(unreachable))
