"""Numpy and scipy.

`intervals` (bootstrap, Wilson, clustered), `controlled` gains, `win_rates`,
`diversity`.
"""
