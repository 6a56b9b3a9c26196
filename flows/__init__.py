"""What runs and in which order: Prefect flows, their parameters and the command line."""
