"""From files, hub or generator to the canonical datasets."""
