"""Reward models: training, ranking, quality, calibration, best of n."""
