"""Runs that have nothing to do, and runs that go wrong."""

from staging import stage

from airflow_dbhygiene import Discard, Pace, hygiene_dag

hygiene_dag(stage("nothing_stale"))

# The limit is reached, and yet no row is stale.
hygiene_dag(stage("zero_chunks"), at_least={"table_bytes": 1})

hygiene_dag(stage("discarded", archive=Discard(reason="made anew every hour")))

hygiene_dag(stage("hurried", pace=Pace(max_idle_seconds=1)), retries=0)

hygiene_dag(stage("referenced"), retries=0)

hygiene_dag(stage("begun"), at_least={"stale_rows": 1_500}, retries=0)

hygiene_dag(stage("store_gone"), retries=0)

hygiene_dag(stage("refused"))
