"""Keeping a home tidy.

`garbage` finds what no `references` reach, `retention` weights that are old and nobody needs;
`sweeping` removes either. `reconcile` ends runs that were killed; `weight` tells what each part
weighs.
"""
