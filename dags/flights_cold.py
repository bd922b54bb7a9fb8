"""Keep a year of flights; move the rest into a cold table of the same database, where SQL still finds them."""

from datetime import UTC, datetime

from airflow_dbhygiene import ColdTable, Guard, OlderThan, Policy, hygiene_dag

flights_cold = Policy(
    name="flights_cold",
    conn_id="shop_pg",
    table="public.flights",
    stale=OlderThan("time_hour", keep="1 year"),
    archive=ColdTable("cold.flights"),  # CREATE SCHEMA cold; on another connection: "history_pg@cold.flights"
    guard=Guard(max_fraction=0.9),
    owner="data-platform",
)

hygiene_dag(flights_cold, schedule=None, start_date=datetime(2013, 1, 1, tzinfo=UTC))
