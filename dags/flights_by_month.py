"""Take one month of flights per run: the month of the run's own data interval, one year back. Made for backfills.

``airflow backfill create --dag-id hygiene_flights_by_month --from-date 2014-01-01 --to-date 2014-06-01`` takes
January to June 2013, and no other row.
"""

from datetime import UTC, datetime

from airflow_dbhygiene import OlderThan, Parquet, Policy, hygiene_dag

flights_by_month = Policy(
    name="flights_by_month",
    conn_id="shop_pg",
    table="public.flights",
    stale=OlderThan("time_hour", keep="1 year"),
    window="interval",
    archive=Parquet("s3://cold_store@cold/flights_by_month"),
    owner="data-platform",
)

# A run begins when its month is over: the one of January 2014 on 1 February 2014.
hygiene_dag(
    flights_by_month,
    schedule="@monthly",
    start_date=datetime(2014, 1, 1, tzinfo=UTC),
    end_date=datetime(2014, 12, 1, tzinfo=UTC),
)
