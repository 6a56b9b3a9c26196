"""Views of the flow `foundations`.

`page` is the report on all models, with its `plots`; `translation` shows one translator,
`selection` what was dropped of a corpus.
"""
