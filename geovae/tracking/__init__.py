"""Tracking: what a run records, delivered to MLflow through a queue on disk; the only room that imports mlflow."""

from geovae.tracking.abandoned import claim_run, end_abandoned
from geovae.tracking.delivery import REFUSED, RUN, read_address, read_refused, sync, without_password
from geovae.tracking.models import EXTERNAL, log_model, show_model_of
from geovae.tracking.outbox import UndeliveredWarning, is_alive
from geovae.tracking.tracker import MlflowTracker, NullTracker, Tracker

__all__ = [
    "EXTERNAL",
    "REFUSED",
    "RUN",
    "MlflowTracker",
    "NullTracker",
    "Tracker",
    "UndeliveredWarning",
    "claim_run",
    "end_abandoned",
    "is_alive",
    "log_model",
    "read_address",
    "read_refused",
    "show_model_of",
    "sync",
    "without_password",
]
