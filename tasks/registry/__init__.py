"""Registered models: versions, aliases, cards, lineage, serving."""
