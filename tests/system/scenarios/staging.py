"""What the DAG files of the scenarios share."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier

from airflow_dbhygiene import Guard, Notify, OlderThan, Parquet, Policy
from airflow_dbhygiene.dag import default_args


class NoteTaker(BaseNotifier):
    """Writes down which task of which run failed."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Mapping[str, Any]) -> None:
        """Add a line to the file of the DAG."""
        task = context["ti"]
        with (Path(os.environ["NOTES_FOLDER"]) / task.dag_id).open("a") as file:
            file.write(f"{task.run_id} {task.task_id} {self.text}\n")


def stage(name: str, **settings: Any) -> Policy:
    """Return a policy on the table of that name's schema, in chunks of a thousand rows."""
    usual = {
        "conn_id": "lab_pg",
        "table": f"{name}.events",
        "stale": OlderThan("at", keep="90 days"),
        "archive": Parquet(f"s3://cold_store@cold/{name}"),
        "guard": Guard(max_fraction=1, min_chunk_rows=1_000),
        "notify": (Notify(path="staging.NoteTaker", arguments={"text": "try {{ ti.try_number }}"}),),
    }
    return Policy(**{"name": name, **usual, **settings})


def impatient(policy: Policy, **settings: Any) -> dict[str, Any]:
    """Return the settings of a DAG whose tasks are tried again after a second."""
    return {"default_args": {**default_args(policy), "retry_delay": timedelta(seconds=1), **settings}}
