"""The package's version, as it is installed."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("airflow-dbhygiene")
