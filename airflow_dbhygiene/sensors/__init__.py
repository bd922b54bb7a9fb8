"""Waiting for clutter."""

from airflow_dbhygiene.sensors.clutter import ClutterSensor

__all__ = ["ClutterSensor"]
