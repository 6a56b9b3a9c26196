"""Views of the flow `foundations`.

`page` is the report on all models, with its `plots`; `understanding` shows one model on one task,
`translation` one translator, `selection` what was dropped of a corpus.
"""
