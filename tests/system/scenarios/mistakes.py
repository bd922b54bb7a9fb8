"""Policies that name what does not exist, or what may not be used."""

from staging import stage

from airflow_dbhygiene import Parquet, hygiene_dag

POOL = "hygiene_lab_pg"

hygiene_dag(stage("unknown_connection", conn_id="nowhere_pg"), pool=POOL)
hygiene_dag(stage("denied_connection", conn_id="denied_pg"), pool=POOL)
hygiene_dag(stage("unknown_table"))
hygiene_dag(stage("unknown_store", archive=Parquet("s3://nowhere_store@cold/x")))
hygiene_dag(stage("denied_store", archive=Parquet("s3://denied_store@cold/x")))
hygiene_dag(stage("unknown_pool"), pool="nowhere_pool")
