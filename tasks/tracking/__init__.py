"""MLflow: the client, metrics on their way, recording and repairing runs."""
