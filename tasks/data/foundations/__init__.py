"""Texts, translations and tasks about sentences, for comparing families of models.

`config`; `build` writes them, from the embedded captions or from people's `folders`.
"""
