"""What the operators share: they assign, call one step, and report."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_dbhygiene.connections import open_site
from airflow_dbhygiene.errors import PolicyInvalid, Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_dbhygiene.policy import Policy
    from airflow_dbhygiene.steps.site import Site

_TEMPLATE: Final = re.compile(r"\{(?=[{%#])")
_YES: Final = ("true", "1", "yes", "on")
_NO: Final = ("false", "0", "no", "off", "none", "")


class HygieneOperator(BaseOperator):
    """Runs one step on one database.

    A terminal error fails the task at once; any other is retried as the task's retries say.
    """

    ui_color = "#e4f3ec"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._site: Site | None = None

    def execute(self, context: Context) -> Any:
        """Run the step."""
        try:
            self._site = open_site(self.connection_id(), self.log.info)
            return self.run_step(self._site, context)
        except Terminal as error:
            raise AirflowFailException(str(error)) from error

    def on_kill(self) -> None:
        """Cancel the running query from a second connection: Airflow kills the process five seconds later."""
        if self._site is not None:
            self._site.database.cancel()

    @abstractmethod
    def connection_id(self) -> str:
        """Name the Airflow connection of the database."""

    @abstractmethod
    def run_step(self, site: Site, context: Context) -> Any:
        """Call the step."""


class ChunkOperator(HygieneOperator):
    """Runs one step on one chunk.

    :param chunk: a chunk's descriptor as ``PlanOperator`` returns it: conn_id, run, chunk and label
    """

    template_fields: Sequence[str] = ("chunk",)
    template_fields_renderers = {"chunk": "json"}  # noqa: RUF012 - Airflow's own form

    def __init__(self, *, chunk: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**{"map_index_template": "{{ label }}", **kwargs})
        self.chunk = chunk

    def execute(self, context: Context) -> Any:
        """Name the mapped task first: a template without its label would fail the task after its work is done."""
        context["label"] = self.chunk["label"]  # type: ignore[typeddict-unknown-key]
        return super().execute(context)

    def connection_id(self) -> str:
        """Name the Airflow connection of the database."""
        return str(self.chunk["conn_id"])


class RunOperator(HygieneOperator):
    """Runs one step on a whole run.

    :param conn_id: Airflow connection of the database
    :param run: the run's id; empty when nothing was planned
    """

    template_fields: Sequence[str] = ("conn_id", "run")

    def __init__(self, *, conn_id: str, run: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.run = run

    def connection_id(self) -> str:
        """Name the Airflow connection of the database."""
        return self.conn_id

    @property
    def has_run(self) -> bool:
        """Tell whether there is a run at all: a template of a missing XCom renders as the text None."""
        return self.run not in (None, "", "None")

    def run_id(self) -> str:
        """Give the run's id, or skip the task when nothing was planned."""
        if not self.has_run:
            raise AirflowSkipException("nothing was planned: there is no run.")
        return str(self.run)


def readable(document: Mapping[str, Any]) -> str:
    """Write a document as a page shows it: a value a line."""
    return json.dumps(document, ensure_ascii=False, indent=1)


def given(text: Any) -> str | None:
    """Take a rendered field; None when it is empty, or the text of a None."""
    return None if text in (None, "", "None") else str(text)


def task_name(context: Context) -> str:
    """Name what a task instance does, the same in each try: every one of a mapped task is of its own."""
    task = context["ti"]
    name = f"{task.dag_id} {task.run_id} {task.task_id}"
    return name if task.map_index in (None, -1) else f"{name} {task.map_index}"


def is_asked(value: Any, name: str) -> bool:
    """Read a switch, which may be a rendered field.

    :param name: what an error calls it
    :raises PolicyInvalid: when it says neither yes nor no: whoever misspells a dry run must not get a real one
    """
    text = str(value).strip().lower()
    if text not in (*_YES, *_NO):
        raise PolicyInvalid(f"{name} is {value!r}: write true or false.")
    return text in _YES


def refuse_unheard(conf: Mapping[str, Any] | None) -> None:
    """Refuse a real run that somebody meant to be a dry one.

    :param conf: what the DAG run was triggered with; Airflow takes any key, and no task need look at it
    :raises PolicyInvalid: when it asks for a dry run, in this or a similar spelling
    """
    for key, value in (conf or {}).items():
        if get_close_matches(key.lower(), ["dry_run"], cutoff=0.65) and str(value).strip().lower() not in _NO:
            raise PolicyInvalid(
                f"the run was triggered with {key!r}, and this would be a real one: write 'dry_run', and in a DAG of "
                f"your own give PlanOperator dry_run=\"{{{{ params.get('dry_run', false) }}}}\". Nothing was planned."
            )


def shown(policy: Policy) -> str:
    """Give a policy's JSON as a rendered field: what would be a template in its conditions stands there escaped."""
    return _TEMPLATE.sub(r"\\u007b", readable(json.loads(policy.json_text)))
