"""Tracking: what a run records, delivered to MLflow through a queue on disk; the only room that imports mlflow."""

from geovae.tracking.delivery import sync, without_password
from geovae.tracking.tracker import MlflowTracker, NullTracker, Tracker

__all__ = ["MlflowTracker", "NullTracker", "Tracker", "sync", "without_password"]
