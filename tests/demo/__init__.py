"""`make demo`: real flights leave a real server for a real S3 server, by way of a real Airflow."""
