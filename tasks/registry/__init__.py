"""Registered models.

`versions` registers and finds them, `aliases` moves champion and previous, `card` writes model
cards, `lineage` tells what a model was made from, `serving` chats and serves: behind a `guard` that
checks who asks and the `bodies` of requests, over `connections` that do not wait for ever.
"""
