"""Canonical rows on disk, and which of them are written.

`spool` holds rows on disk and hashes of them in memory; `spooling` fills spools from raw rows, in
one form; `selection` drops duplicates and overlaps and holds rows out; `mixture` repeats what
weights repeat.
"""
