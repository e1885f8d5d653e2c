"""What `mlflow run` calls: one thin file an entry point."""
