"""Stages of the flow `foundations`, which compares families of models.

`config` is the run's; `data` writes the texts, translations and tasks; `select` drops what is not
worth training on; `ngram` counts, `translate` trains a translator, `understand` fine-tunes a model
on one task, `in_context` asks it by prompts; `conclude` puts all models side by side, and
`checking` says which of the published `claims` held.
"""
