"""One run from end to end, for whoever looks for secrets in what it leaves behind."""

from staging import stage

from airflow_dbhygiene import hygiene_dag

hygiene_dag(stage("secretive"))
