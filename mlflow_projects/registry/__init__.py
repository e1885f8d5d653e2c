"""What registers, judges and promotes models in the MLflow registry."""
