"""Keeping a home tidy.

`garbage` finds and removes what no `references` reach; `reconcile` ends runs that were killed;
`weight` tells what each part weighs.
"""
