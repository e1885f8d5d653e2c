"""Tracking: what a run reports, kept in MLflow through a queue on disk; the library uses mlflow here only."""

from geovae.tracking.tracker import MlflowTracker, NullTracker, Tracker, sync, without_password

__all__ = ["MlflowTracker", "NullTracker", "Tracker", "sync", "without_password"]
