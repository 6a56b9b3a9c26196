"""Registered models.

`registration` registers published models, `versions` finds them, `verdicts` says which policies
were accepted and which is challenger, `origins` what one was made from, `aliases` moves champion
and previous, `turns` lets one process at a time do so, `card` writes model cards, `lineage` tells
what a model was made from, by the `records` of stages, `serving` chats and serves: behind a `guard`
that checks who asks and the `bodies` of requests, over `connections` that do not wait for ever;
`texts` seeds each request and cuts its answer at a stop string, `tokens` samples for a training
elsewhere.
"""
