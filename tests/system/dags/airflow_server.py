"""Small DAGs that show what the shared Airflow does."""

import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Asset, BaseOperator, Context, CronDataIntervalTimetable, task, task_group

START = datetime(2024, 1, 1, tzinfo=UTC)
FLIGHTS = Asset(name="flights", uri="hygiene-test://shop/flights")


class Count(BaseOperator):
    """Count a chunk; a classic operator, as the provider's own are."""

    template_fields: Sequence[str] = ("chunk",)

    def __init__(self, *, chunk: Mapping[str, int], **kwargs: Any) -> None:
        super().__init__(map_index_template="{{ label }}", **kwargs)
        self.chunk = chunk

    def execute(self, context: Context) -> int:
        """Label this mapped task and return ten times its number."""
        context["label"] = f"chunk {self.chunk['number']}"  # type: ignore[typeddict-unknown-key]
        self.log.info("counting %s", self.chunk["number"])
        return self.chunk["number"] * 10


@task_group
def counted(chunk: Mapping[str, int]) -> None:
    """Count one chunk."""
    Count(task_id="count", chunk=chunk)


with DAG("mapped", schedule=None, start_date=START):

    @task
    def chunks() -> list[dict[str, int]]:
        """Return small descriptors to map over."""
        return [{"number": number} for number in (1, 2)]

    @task(outlets=[FLIGHTS])
    def report(outlet_events: Any = None) -> None:
        """Attach the sum to the asset's event."""
        outlet_events[FLIGHTS].extra = {"rows": 30}

    counted.expand(chunk=chunks()) >> report()

with DAG("failing", schedule=None, start_date=START):

    @task
    def fail() -> None:
        """Fail."""
        message = "meant to fail"
        raise ValueError(message)

    fail()

with DAG("daily", schedule=CronDataIntervalTimetable("@daily", timezone="UTC"), start_date=START, catchup=False):

    @task
    def window(data_interval_start: datetime | None = None, data_interval_end: datetime | None = None) -> str:
        """Return the interval of the run."""
        return f"{data_interval_start:%F}..{data_interval_end:%F}"

    window()

with DAG("sleeping", schedule=None, start_date=START):

    @task
    def sleep(ti: Any = None) -> None:
        """Wait for a child that would outlive this task by far, in a session of its own as a shell command's is."""
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
            ti.xcom_push("pid", child.pid)

    sleep()
