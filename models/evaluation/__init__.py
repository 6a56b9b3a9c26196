"""Models measured, compared and judged.

`evaluation` is the whole story: `sampling` gives `samples` (with the judges' interface),
`measures` and gains follow, `checks` decide, `wording` says it, `result` is the record. `texts`:
BLEU and ROUGE. `grades` of judges, `config`.
"""
