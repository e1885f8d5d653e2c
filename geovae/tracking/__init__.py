"""Tracking: what a run records, delivered to MLflow through a queue on disk; the only room that imports mlflow."""

from geovae.tracking.delivery import REFUSED, read_refused, sync, without_password
from geovae.tracking.outbox import UndeliveredWarning
from geovae.tracking.tracker import MlflowTracker, NullTracker, Tracker

__all__ = [
    "REFUSED",
    "MlflowTracker",
    "NullTracker",
    "Tracker",
    "UndeliveredWarning",
    "read_refused",
    "sync",
    "without_password",
]
