"""``airflow dbhygiene …``: what a person does by hand."""
