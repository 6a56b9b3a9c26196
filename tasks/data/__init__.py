"""From files, hub or generator to the canonical datasets.

`config`; `sources` reads the world, a folder of `files`, or the `hub`, within `limits`; `formats`
recognises rows; `quality` checks and cleans them, `tally` counts them; `spooling` writes what is
left to a `spool` on disk; `split` decides by hashes what is held out, `selection` what is a
duplicate or an overlap, `mixture` what is repeated; `build` writes
the datasets and the `report`, and `inspection` looks at them.
"""
