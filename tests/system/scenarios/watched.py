"""A run that people look at in the browser."""

from staging import stage

from airflow_dbhygiene import Guard, hygiene_dag

hygiene_dag(stage("watched", guard=Guard(max_fraction=1, min_chunk_rows=250)))
