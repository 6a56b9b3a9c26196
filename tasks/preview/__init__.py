"""A look at data before anything is run.

`given` says which collection each file is; `rows` shows a few prepared rows as a model sees them.
"""
