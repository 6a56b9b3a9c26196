"""Prefect flows, their parameters and forms, and the command line."""
