"""Keeping a home tidy: garbage collection, and runs that were killed."""
