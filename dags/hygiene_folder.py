"""Make a DAG for each policy of the folder beside this file. People who write policies need not write Python."""

from pathlib import Path

from airflow_dbhygiene import dags_from_folder

globals().update(dags_from_folder(Path(__file__).with_name("policies")))
