"""Intervals, win rates and diversity: numpy and scipy."""
