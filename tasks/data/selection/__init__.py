"""Which documents of a corpus are worth training on.

`config`; `rules` judge a document by itself, `duplicates` by the others; `selecting` writes what
stays and, with reasons, what does not.
"""
