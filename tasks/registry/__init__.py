"""Registered models.

`versions` registers and finds them, `aliases` moves champion and previous, `card` writes model
cards, `lineage` tells what a model was made from, `serving` chats and serves.
"""
