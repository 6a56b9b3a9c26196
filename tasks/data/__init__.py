"""From files, hub or generator to the canonical datasets.

`config`; `sources` reads the world, a folder of files (`folders`), or sources that are `named`:
`files`, which `reading` turns into raw rows, or the `hub`, within `limits`; `formats` recognises
rows, by the table in `conversion`; `quality` checks them after `cleaning`, `tally` counts them;
what is left goes to `spools` on disk; `split` decides by hashes what is held out; `build` writes
the datasets and the `report`, and `inspection` looks at them. `selection` makes a corpus smaller.

`foundations` has data of its own.
"""
