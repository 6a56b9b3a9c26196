"""Formats: from raw rows to canonical ones.

`records` passes between the steps; `cells` reads single values, `messages` and `transcripts`
dialogues; `columns` says which columns a format reads. `dialogues`, `pairs` (with `verdicts`),
`rankings` and `trees` hold the conversions, `table` one row for each; `canonical` makes rows of a
collection of what they read. The face is `tasks.data.formats`.
"""
