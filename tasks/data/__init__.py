"""From files, hub or generator to the canonical datasets.

`config`; `sources` reads the world, a folder of `files`, or the `hub`, within `limits`; `formats`
recognises rows; `quality` checks, cleans and counts them; `split` holds rows out; `build` writes
the datasets and the `report` of what was found.
"""
