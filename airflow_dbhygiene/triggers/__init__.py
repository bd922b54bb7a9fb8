"""Waiting without a worker."""

from airflow_dbhygiene.triggers.clutter import ClutterTrigger

__all__ = ["ClutterTrigger"]
