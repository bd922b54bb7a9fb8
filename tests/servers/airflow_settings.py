"""The configuration of a test's Airflow: quick to react, deaf to the network, and quiet."""

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path

from tests.servers.ports import LOOPBACK

ConnectionValue = str | Mapping[str, object]
Sections = dict[str, dict[str, str]]

# They would make every one of the four processes compile thousands of modules again (+8 s), write to the caller's
# Airflow, or send the tasks' calls to their own API through a proxy.
NOT_INHERITED = ("AIRFLOW", "_AIRFLOW", "PYTHONDONTWRITEBYTECODE", "PYTEST", "COV_CORE")

PRELOAD = """from airflow_dbhygiene.preload import preload

preload()
"""


def write_config(home: Path, dags_folder: Path, *, port: int, parallelism: int, database_url: str | None) -> None:
    """Write `airflow.cfg` into `home`. It holds secrets, and the log tail of an error never does."""
    sections = _places(home, dags_folder, port, database_url)
    for section, options in _pace(parallelism).items():
        sections.setdefault(section, {}).update(options)
    config = ConfigParser(interpolation=None)
    config.read_dict(_escaped(sections))
    target = home / "airflow.cfg"
    target.touch(mode=0o600)
    with target.open("w") as file:
        config.write(file)


def write_local_settings(home: Path) -> None:
    """Load all drivers before tasks are forked, as the documentation says."""
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "airflow_local_settings.py").write_text(PRELOAD)


def write_passwords(home: Path, usernames: Sequence[str]) -> dict[str, str]:
    """Give every user a new password, in the file that the SimpleAuthManager reads."""
    passwords = {username: secrets.token_hex(8) for username in usernames}
    target = home / "passwords.json"
    target.touch(mode=0o600)
    target.write_text(json.dumps(passwords))
    return passwords


def child_environment(
    home: Path, connections: Mapping[str, ConnectionValue] | None = None, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of Airflow's processes; connections travel in it, so that none is stored."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        # Task processes and the command line find `airflow` and the project's other programs here.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
        "NO_PROXY": f"{LOOPBACK},localhost",
        "PYTHONUNBUFFERED": "1",
        **{f"AIRFLOW_CONN_{conn_id.upper()}": _as_text(value) for conn_id, value in (connections or {}).items()},
        **(extra or {}),
    }


def _places(home: Path, dags_folder: Path, port: int, database_url: str | None) -> Sections:
    """Return where Airflow reads and writes, and what its parts trust each other by."""
    return {
        "core": {
            "dags_folder": str(dags_folder),
            "load_examples": "False",
            "simple_auth_manager_users": "admin:admin,viewer:viewer",
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            # The default asks the resolver for this machine's name, which may take seconds where there is no network.
            "hostname_callable": "socket.gethostname",
        },
        "database": {"sql_alchemy_conn": database_url or sqlite_url(home)},
        "api": {
            "host": LOOPBACK,
            "port": str(port),
            "base_url": f"http://{LOOPBACK}:{port}",
            "secret_key": secrets.token_hex(16),
            "expose_stacktrace": "True",
        },
        "api_auth": {"jwt_secret": secrets.token_hex(32)},
        "logging": {"base_log_folder": str(home / "logs"), "colored_console_log": "False"},
        "dag_processor": {"dag_bundle_storage_path": str(home / "bundles")},
    }


def _pace(parallelism: int) -> Sections:
    """Return what makes Airflow react within a second, where its defaults suit a cluster."""
    return {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": str(parallelism),
            # An edited DAG file counts at once.
            "min_serialized_dag_update_interval": "0",
        },
        "scheduler": {
            "scheduler_idle_sleep_time": "0.2",
            "trigger_timeout_check_interval": "1",
            "task_instance_heartbeat_timeout": "60",
            "task_instance_heartbeat_timeout_detection_interval": "5",
        },
        "dag_processor": {
            "refresh_interval": "1",
            "bundle_refresh_check_interval": "1",
            # A new or edited file is read at once whatever this says; unchanged ones need not be.
            "min_file_process_interval": "60",
            # Above the interval, or DAGs would be dropped between two readings.
            "stale_dag_threshold": "120",
        },
        "triggerer": {"job_heartbeat_sec": "2"},
        # A SQLite file has one writer at a time: wait for it rather than fail.
        "workers": {"execution_api_timeout": "30", "min_heartbeat_interval": "2"},
    }


def sqlite_url(home: Path) -> str:
    """Return the address of the metadata database in `home`; writers queue for up to 30 s."""
    return f"sqlite:///{home / 'airflow.db'}?timeout=30"


def _escaped(sections: Sections) -> Sections:
    # Airflow expands %(name)s in its configuration file.
    return {
        section: {name: value.replace("%", "%%") for name, value in options.items()}
        for section, options in sections.items()
    }


def _as_text(value: ConnectionValue) -> str:
    return value if isinstance(value, str) else json.dumps(dict(value))
