"""What Airflow's REST API answers, reduced to the fields that tests look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

FINISHED_STATES = frozenset({"success", "failed"})


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG; `logical_date` and the interval are None for runs that stand for no date."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    logical_date: datetime | None
    data_interval_start: datetime | None
    data_interval_end: datetime | None
    run_after: datetime
    duration_seconds: float | None
    conf: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, well or badly."""
        return self.state in FINISHED_STATES

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """Read the API's JSON object of a run."""
        return cls(
            dag_id=answer["dag_id"],
            run_id=answer["dag_run_id"],
            run_type=answer["run_type"],
            state=answer["state"],
            logical_date=moment(answer["logical_date"]),
            data_interval_start=moment(answer["data_interval_start"]),
            data_interval_end=moment(answer["data_interval_end"]),
            run_after=datetime.fromisoformat(answer["run_after"]),
            duration_seconds=answer["duration"],
            conf=answer["conf"] or {},
        )


@dataclass(frozen=True)
class TaskInstance:
    """One task of a run; `map_index` is -1 unless it is mapped. The state is None before the scheduler has seen it."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    rendered_map_index: str | None
    rendered_fields: Mapping[str, Any]
    operator: str
    pool: str
    duration_seconds: float | None
    note: str | None

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """Read the API's JSON object of a task instance."""
        return cls(
            task_id=answer["task_id"],
            map_index=answer["map_index"],
            state=answer["state"],
            try_number=answer["try_number"],
            rendered_map_index=answer["rendered_map_index"],
            rendered_fields=answer["rendered_fields"],
            operator=answer["operator_name"] or "",
            pool=answer["pool"],
            duration_seconds=answer["duration"],
            note=answer["note"],
        )


@dataclass(frozen=True)
class Backfill:
    """A request to run a DAG for past intervals; both bounds are inclusive, by logical date."""

    backfill_id: int
    dag_id: str
    from_date: datetime
    to_date: datetime

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """Read the API's JSON object of a backfill."""
        return cls(
            backfill_id=answer["id"],
            dag_id=answer["dag_id"],
            from_date=datetime.fromisoformat(answer["from_date"]),
            to_date=datetime.fromisoformat(answer["to_date"]),
        )


@dataclass(frozen=True)
class AssetEvent:
    """News of an asset, with the `extra` that its task attached."""

    uri: str
    extra: Mapping[str, Any]
    dag_id: str | None
    run_id: str | None
    task_id: str | None
    map_index: int

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """Read the API's JSON object of an asset event."""
        return cls(
            uri=answer["uri"],
            extra=answer["extra"] or {},
            dag_id=answer["source_dag_id"],
            run_id=answer["source_run_id"],
            task_id=answer["source_task_id"],
            map_index=answer["source_map_index"],
        )


@dataclass(frozen=True)
class DagImportError:
    """A DAG file that did not import; none of its DAGs exists."""

    filename: str
    stack_trace: str

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        """Read the API's JSON object of an import error."""
        return cls(filename=answer["filename"], stack_trace=answer["stack_trace"])


def moment(text: str | None) -> datetime | None:
    """Return the aware datetime of an ISO text, None for none."""
    return None if text is None else datetime.fromisoformat(text)
