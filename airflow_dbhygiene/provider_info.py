"""What Airflow asks of a provider."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the package to Airflow's providers manager."""
    return {
        "package-name": "airflow-dbhygiene",
        "name": "Database hygiene",
        "description": "Archives, verifies and purges stale database rows without disturbing the traffic.",
        "cli": ["airflow_dbhygiene.cli.definition.get_commands"],
    }
