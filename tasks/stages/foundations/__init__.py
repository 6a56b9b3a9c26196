"""Stages of the flow `foundations`, which compares families of models.

`data` writes the texts, translations and tasks.
"""
