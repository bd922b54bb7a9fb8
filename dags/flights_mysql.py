"""The same as flights.py, on MariaDB or MySQL: a table is named by its database there."""

from datetime import UTC, datetime

from airflow_dbhygiene import Guard, OlderThan, Parquet, Policy, hygiene_dag

flights_mysql = Policy(
    name="flights_mysql",
    conn_id="shop_my",
    table="shop.flights",
    stale=OlderThan("time_hour", keep="90 days"),
    archive=Parquet("s3://cold_store@cold/flights_mysql"),
    guard=Guard(max_fraction=0.9),
    owner="data-platform",
)

# These flights are of 2013: trigger it by hand, as of a day in 2014. A table in use has a schedule such as "@daily".
hygiene_dag(flights_mysql, schedule=None, start_date=datetime(2013, 1, 1, tzinfo=UTC))
