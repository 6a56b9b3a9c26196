"""The embedded quickstart: a small assistant world, generated from a seed."""
