"""Reward models.

`training` from pairs, `moments` of scores, `ranking` of held-out pairs, `split` between reward
model and judge, and their `disagreement`; `quality` before PPO, with `calibration`, `best_of_n` and
`endings`; `rejection`, SFT on the best of n; `config`.
"""
