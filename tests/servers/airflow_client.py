"""Airflow's REST API in the words of the tests: trigger, wait, look."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import httpx

from tests.servers.airflow_records import AssetEvent, Backfill, DagImportError, DagRun, TaskInstance

POLL_SECONDS = 0.25
PAGE_ROWS = 100
ReprocessBehavior = Literal["none", "completed", "failed"]


class AirflowClient:
    """A logged-in user of one Airflow; every call that Airflow refuses raises `httpx.HTTPStatusError` with its reason.

    `http` is open to tests that need an endpoint without a method here; its paths start behind `/api/v2/`.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        """Log in. The token is good for a day."""
        answer = httpx.post(f"{url}/auth/token", json={"username": username, "password": password}, timeout=60)
        self.token = str(_checked(answer).json()["access_token"])
        self.http = httpx.Client(
            base_url=f"{url}/api/v2/",
            headers={"Authorization": f"Bearer {self.token}"},
            event_hooks={"response": [_checked]},
            # A scheduler that is busy with its SQLite file makes the API wait.
            timeout=60,
        )

    def close(self) -> None:
        """Close the connections to the server."""
        self.http.close()

    def create_pool(self, name: str, slots: int) -> None:
        """Create a pool of `slots` that deferred tasks leave, as Airflow's default."""
        self.http.post("pools", json={"name": name, "slots": slots})

    def wait_for_dag(self, dag_id: str, *, parsed_after: datetime | None = None, timeout_seconds: float = 30) -> None:
        """Return once the DAG processor has read the DAG, anew after `parsed_after` when its file was edited."""

        def parsed() -> bool:
            try:
                answer = self.http.get(f"dags/{dag_id}").json()
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    return False
                raise
            last_parsed = datetime.fromisoformat(answer["last_parsed_time"])
            return parsed_after is None or last_parsed > parsed_after

        _poll(parsed, timeout_seconds, lambda: f"no DAG {dag_id!r}; import errors: {self.import_errors()}")

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG, as soon as it is known. With a schedule its latest interval starts now."""
        self.wait_for_dag(dag_id)
        self.http.patch(f"dags/{dag_id}", json={"is_paused": False})

    def trigger(
        self,
        dag_id: str,
        *,
        conf: Mapping[str, Any] | None = None,
        logical_date: datetime | None = None,
        data_interval: tuple[datetime, datetime] | None = None,
        run_id: str | None = None,
    ) -> str:
        """Start a run and return its id. Without a `logical_date` the run has no data interval either."""
        body: dict[str, Any] = {"conf": dict(conf or {}), "logical_date": logical_date and logical_date.isoformat()}
        if run_id is not None:
            body["dag_run_id"] = run_id
        if data_interval is not None:
            body["data_interval_start"], body["data_interval_end"] = (bound.isoformat() for bound in data_interval)
        return str(self.http.post(f"dags/{dag_id}/dagRuns", json=body).json()["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Return the run as it is now."""
        return DagRun.parse(self.http.get(f"dags/{dag_id}/dagRuns/{run_id}").json())

    def runs(self, dag_id: str, **filters: str) -> list[DagRun]:
        """Return the runs of a DAG in the order of their dates, narrowed by the API's `filters`."""
        found = self._pages(f"dags/{dag_id}/dagRuns", "dag_runs", {"order_by": "run_after", **filters})
        return [DagRun.parse(answer) for answer in found]

    def wait(self, dag_id: str, run_id: str, timeout_seconds: float = 60) -> DagRun:
        """Return the run once it is finished, well or badly; the time-out's error lists where its tasks stand."""
        _poll(
            lambda: self.run(dag_id, run_id).finished,
            timeout_seconds,
            lambda: f"run {run_id!r} of {dag_id!r} is not finished: {self._states(dag_id, run_id)}",
        )
        return self.run(dag_id, run_id)

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the tasks of a run by task id and map index, with their latest try."""
        found = self._pages(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances", {})
        return sorted(map(TaskInstance.parse, found), key=lambda task: (task.task_id, task.map_index))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what a task pushed."""
        path = f"{_task_path(dag_id, run_id, task_id)}/xcomEntries/{key}"
        return self.http.get(path, params={"map_index": map_index}).json()["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        """Return the log of one try, a line per event with the fields that belong to it."""
        answer = self.http.get(
            f"{_task_path(dag_id, run_id, task_id)}/logs/{try_number}",
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/json"},
        )
        return "\n".join(_log_line(event) for event in answer.json()["content"])

    def extra_links(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """Return the link buttons of a task by name; None marks one that leads nowhere."""
        path = f"{_task_path(dag_id, run_id, task_id)}/links"
        return dict(self.http.get(path, params={"map_index": map_index}).json()["extra_links"])

    def clear(
        self,
        dag_id: str,
        run_id: str,
        *,
        tasks: Sequence[str | tuple[str, int]] | None = None,
        only_failed: bool = False,
        include_downstream: bool = False,
    ) -> None:
        """Queue tasks of a run anew, all of them or `tasks` (an id, or an id with its map index)."""
        body: dict[str, Any] = {"dry_run": False, "dag_run_id": run_id, "only_failed": only_failed}
        if tasks is not None:
            body |= {"task_ids": list(tasks), "include_downstream": include_downstream}
        self.http.post(f"dags/{dag_id}/clearTaskInstances", json=body)

    def backfill(
        self,
        dag_id: str,
        from_date: datetime,
        to_date: datetime,
        *,
        max_active_runs: int = 1,
        reprocess_behavior: ReprocessBehavior = "none",
        run_backwards: bool = False,
    ) -> Backfill:
        """Create the runs of all intervals whose logical date lies between the bounds, both included."""
        body = {
            "dag_id": dag_id,
            "from_date": from_date.isoformat(),
            "to_date": to_date.isoformat(),
            "max_active_runs": max_active_runs,
            "reprocess_behavior": reprocess_behavior,
            "run_backwards": run_backwards,
        }
        return Backfill.parse(self.http.post("backfills", json=body).json())

    def wait_backfill(self, backfill: Backfill, timeout_seconds: float = 120) -> list[DagRun]:
        """Return the runs of a backfill in the order of their dates, once all are finished.

        They exist from the moment the backfill does, and earlier ones that it runs anew become its own.
        """
        bounds = {
            "run_type": "backfill",
            "logical_date_gte": backfill.from_date.isoformat(),
            "logical_date_lte": backfill.to_date.isoformat(),
        }
        _poll(
            lambda: all(run.finished for run in self.runs(backfill.dag_id, **bounds)),
            timeout_seconds,
            lambda: f"{backfill} is not finished: {self.runs(backfill.dag_id, **bounds)}",
        )
        self._close_backfill(backfill)
        return self.runs(backfill.dag_id, **bounds)

    def _close_backfill(self, backfill: Backfill) -> None:
        # The scheduler closes backfills every 30 seconds, and refuses the DAG another one until then. Cancelling one
        # whose runs are all finished closes it at once and changes nothing else.
        try:
            self.http.put(f"backfills/{backfill.backfill_id}/cancel")
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise

    def import_errors(self) -> list[DagImportError]:
        """Return the DAG files that do not import."""
        return [DagImportError.parse(answer) for answer in self._pages("importErrors", "import_errors", {})]

    def asset_events(self, dag_id: str, run_id: str | None = None) -> list[AssetEvent]:
        """Return what a DAG's tasks, or those of one run, reported of assets, the oldest first."""
        filters = {"source_dag_id": dag_id, "order_by": "timestamp"} | ({"source_run_id": run_id} if run_id else {})
        return [AssetEvent.parse(answer) for answer in self._pages("assets/events", "asset_events", filters)]

    def _states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        return {(task.task_id, task.map_index): task.state for task in self.task_instances(dag_id, run_id)}

    def _pages(self, path: str, key: str, filters: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        offset, total = 0, 1
        while offset < total:
            answer = self.http.get(path, params={**filters, "limit": PAGE_ROWS, "offset": offset}).json()
            yield from answer[key]
            offset, total = offset + PAGE_ROWS, answer["total_entries"]


def _task_path(dag_id: str, run_id: str, task_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"


def _log_line(event: Mapping[str, Any] | str) -> str:
    if isinstance(event, str):
        return event
    dull = {"event", "timestamp", "level", "logger", "filename", "lineno"}
    fields = [f"{name}={value}" for name, value in event.items() if name not in dull]
    return " ".join([str(event["event"]), *fields])


def _poll(done: Callable[[], bool], timeout_seconds: float, complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not done():
        if time.monotonic() > deadline:
            message = f"after {timeout_seconds} s: {complaint()}"
            raise TimeoutError(message)
        time.sleep(POLL_SECONDS)


def _checked(response: httpx.Response) -> httpx.Response:
    """Raise with the body of a refusal: httpx's own message holds the status alone."""
    if response.is_error:
        response.read()
        message = f"{response.request.method} {response.url}: {response.status_code} {response.text}"
        raise httpx.HTTPStatusError(message, request=response.request, response=response)
    return response
