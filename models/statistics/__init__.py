"""Numpy and scipy.

`intervals` (bootstrap, Wilson, clustered), `win_rates`, `diversity`.
"""
