"""The embedded world: data from a generator, an annotator, and a gold judge.

`family` and `families` of prompts, with `facts` and `lookups`; `completions`, contrasts and the
corpus; `generate` writes datasets of `config`'s sizes; `annotator` compares; `judge` is the gold
rule. `captions` in two languages, and tasks about them, are a world of their own.
"""
