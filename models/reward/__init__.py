"""Reward models.

`training` from pairs and their `encoding`, `moments` of scores, `ranking` of held-out pairs,
`disagreement` of two models; `quality` before PPO, with `calibration`, `best_of_n` and
`endings`; `rejection`, SFT on the best of n; `config`.
"""
