"""The embedded world: a generator of data with an annotator and a gold judge."""
