"""What each step does, free of Airflow."""
