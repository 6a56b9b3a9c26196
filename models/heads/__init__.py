"""Fine-tuning for understanding: one head for every family of trunks.

`config` (with what a task is), `formats` (texts into token ids, as GPT-1, BERT and BART take them),
`networks` (a classifier on a published trunk), `outcomes` (a head's outputs as losses and
predictions), `training`, `measures` (held-out numbers) and `baseline` (a bag of words).
"""
